"""HTTP/1.1: one request, one hop, over connections that are kept."""
