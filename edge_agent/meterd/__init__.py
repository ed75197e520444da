"""The meter of a host: one process owns its counters and levers and serves the agents on it."""
