"""Monitoring: metrics, health checks, logs, and notifications to a service manager."""
