"""Threads, supervised loops, batches, shares and stopping: the concurrency tools of every other package."""
