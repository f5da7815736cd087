"""One configuration made live, and exchanged for another."""
