"""datamover moves files for other programs: ask over XML-RPC, get a job id, the file arrives."""

__version__ = "0.1.0"
