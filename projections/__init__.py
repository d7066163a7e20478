"""The read side: folds of the log. Delete them all and lose nothing."""
