"""Bounds of what data services send for datasets, and of the processes that clean it."""

# Answers of the services -----------------------------------------------------------------------------------------

LONGEST_WORDS = 300
"""Characters of a service's own words in a message."""
LONGEST_ATLAS_LSID = 240
"""Characters of a taxon's LSID: ``<lsid>.dataset.json`` must be a file's name."""
LONGEST_TAXON_NAME = 300
"""Characters of a taxon's name."""
MOST_FAILED_POLLS = 6
"""Polls of an order at the Atlas that may fail in a row."""
LONGEST_POLL_PAUSE = 600.0
"""Seconds; a longer Retry-After between two polls is cut to this."""
MOST_GBIF_RECORDS = 100_000
"""Records that GBIF's search returns: offset and limit of a page together may not be more."""
LARGEST_GBIF_ANSWER = 32 * 2**20
"""Bytes of a page, and of an answer for one dataset: some list all their taxa."""
LONGEST_GBIF_KEY = 10
"""Digits of a key of GBIF's."""

# Archives and tables ---------------------------------------------------------------------------------------------

RATIO_FROM = 100 * 10**6
"""Unpacked bytes of an archive above which their ratio to the packed ones is checked."""
LARGEST_NOTE = 4096
"""Bytes of a text in an archive that a message quotes."""
LONGEST_TABLE_LINE = 8 * 2**20
"""Bytes of a table's line; a line of records has a few hundred."""
LONGEST_TABLE_FIELD = 2**20
"""Characters; a longer field comes from a quote that is never closed."""
MOST_TABLE_COLUMNS = 2000
"""Each may be a flag, which is looked for in every row and named where rows are dropped. ALA's are a hundred."""

# The processes that clean ----------------------------------------------------------------------------------------

CLEANING_MEMORY = 2**30
"""Bytes of address space that a child may take; cleaning needs a tenth of it."""
CLEANING_SILENCE = 600.0
"""Seconds without a line after which a process is killed."""
