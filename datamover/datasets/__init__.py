"""Sources that are asked for, fetched and cleaned before they move: one package for each."""
