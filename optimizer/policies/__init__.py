"""The policies: who takes part in a round, and at what bits, precision, width, steps and clock."""
