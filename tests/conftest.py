"""Settings of all tests."""

import os
import signal

from hypothesis import HealthCheck, settings

# The same examples in every run: a failure is the change's doing, and can be had again.
# How long they take depends on the machine, and fails nothing.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

# Triton's kernels run in its interpreter, on the CPU; it reads this when it is first imported.
os.environ["TRITON_INTERPRET"] = "1"

# Begun in the background of a shell, this process ignores Ctrl-C, and so would those it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
