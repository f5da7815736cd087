"""The process: its shared components, its start, its services and its signals."""
