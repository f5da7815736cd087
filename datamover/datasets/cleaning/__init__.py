"""Cleaning of occurrence records; runs in child processes, reads and writes files and does nothing else."""
