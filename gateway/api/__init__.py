"""HTTP handlers, one file per endpoint family, a few lines each."""
