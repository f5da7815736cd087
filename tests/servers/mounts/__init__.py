"""Directories of this machine mounted by FUSE, which misbehave as configured."""
