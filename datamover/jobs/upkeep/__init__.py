"""Upkeep of all jobs, which every engine does now and then: changes, deadlines, retirement, the clock."""
