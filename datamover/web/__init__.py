"""What registry, protocols and datasets all need to know of the web."""
