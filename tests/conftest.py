"""How many examples a property is tried on: a few in `make check`, hundreds in `make test`."""

from hypothesis import settings

settings.register_profile("check", max_examples=30, deadline=None)
settings.register_profile("full", max_examples=300, deadline=None)
settings.load_profile("check")
