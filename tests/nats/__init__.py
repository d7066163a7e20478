"""NATS that fails in every way: nothing is lost there for good, and no request notices."""
