"""The methods of the interface, one module for each namespace."""
