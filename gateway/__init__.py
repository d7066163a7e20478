"""The write side and the door: HTTP in, decisions, upstream calls, the answer out."""
