"""Occurrences from the Global Biodiversity Information Facility, by its search: ``gbif://gbif?taxonKey=…``."""
