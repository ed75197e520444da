"""The coordinator: a pure machine over an append-only log, and the effects that it asks for."""
