"""The log: an append-only record of events, and nothing that knows what the events are about."""
