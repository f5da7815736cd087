"""Clients in other languages: the programs of examples/clients, each in the libraries that it is written for."""
