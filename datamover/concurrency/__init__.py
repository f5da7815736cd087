"""Threads, loops, and many things at once: what every other package stands on."""
