"""One file on its way from its source to its target."""
