"""The interface's HTTP: connections, TLS, requests and their bodies, turns, and pages."""
