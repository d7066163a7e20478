"""Where a request goes, and what next after a failure. Pure."""
