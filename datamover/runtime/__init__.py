"""The configuration in force and what is built from it, and how a reload replaces both."""
