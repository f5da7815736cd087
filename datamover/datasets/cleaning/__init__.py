"""Raw occurrence records become clean ones: pure but for the files that are read and written, and off the reactor."""
