"""What has been asked, and how far it is: values, checks and the store."""
