"""Who somebody is, and what may be read: passwords, files of secrets, accounts of the system."""
