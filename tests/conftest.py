"""Settings of all tests."""

from hypothesis import settings

# The same examples in every run: a failure is the change's doing, and can be had again.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
