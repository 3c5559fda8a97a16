"""Parity: recordings of real Caffe, and the proof that the port gives the same numbers.

``read_recording`` opens a recording, ``parity.verify.verify`` compares a net with it,
``parity.report`` shows the result, ``parity.tolerance`` is the rule.
"""

from caffe_port.parity.recording import Recording, read_recording

__all__ = ["Recording", "read_recording"]
