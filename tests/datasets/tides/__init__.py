"""A dataset of the tests' own: the tides at a station, from a server that wants a ticket."""
