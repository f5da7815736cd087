"""What is watched: metrics, health, and logs for machines."""
