"""A Flower app that only moves bytes."""
