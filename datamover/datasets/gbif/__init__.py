"""Occurrences from the Global Biodiversity Information Facility, asked by its search, ``gbif://gbif?taxonKey=…``."""
