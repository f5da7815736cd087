"""XML-RPC: parse calls, check parameters, make structs of records, and write answers."""
