"""Settings of all tests."""

import os

from hypothesis import settings

# The same examples in every run: a failure is the change's doing, and can be had again.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Triton's kernels run in its interpreter, on the CPU; it reads this when it is first imported.
os.environ["TRITON_INTERPRET"] = "1"
