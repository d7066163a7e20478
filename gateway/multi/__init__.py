"""One request answered by several models at once: what it asks, what its members said, which of them is best. Pure.

The request itself calls no provider and is no exchange: it is a group (`group-<id>`), and each member an exchange like
any other. What the group answers is a fold of its events and theirs, live and whenever it is asked for again.
"""
