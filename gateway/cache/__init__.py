"""Answers given again to who asks the same."""
