"""Generated from proto/fleet/v1 by `make proto`; committed, never edited."""
