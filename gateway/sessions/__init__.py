"""Conversations that the server keeps: durable, because they are a fold of the log."""
