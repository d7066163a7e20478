"""The whole server, killed."""
