"""SFTP: requests and their answers, over channels that are shared."""
