"""XML-RPC: values read, checked and written."""
