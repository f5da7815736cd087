"""An SFTP server for tests that misbehaves as configured."""
