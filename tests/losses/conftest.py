"""Triton's interpreter, for the kernels on the CPU.

Triton reads the variable when it is first imported; nothing imports it while tests are collected.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"
