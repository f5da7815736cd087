"""An FTP client: one control connection, its data connections, and what servers answer."""
