"""Seg-Unravel: which points of an image caused each label of its label map."""

from caffe_port.unravel.rules import Link, Passage, Shift, register_rule
from caffe_port.unravel.trace import SHIFTS, Traces, trace

__all__ = ["SHIFTS", "Link", "Passage", "Shift", "Traces", "register_rule", "trace"]
