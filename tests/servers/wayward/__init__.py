"""An SFTP server of the tests' own that does to every request what it is told."""
