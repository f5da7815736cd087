"""Passwords, the throttling of logins, secret files, directories, and accounts of the operating system."""
