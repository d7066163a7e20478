"""The opinions of an exchange, and what is read of it again."""
