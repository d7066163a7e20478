"""Files in a conversation: found, fetched within bounds, read in a child process, and given to the model in a form that
its provider can carry."""
