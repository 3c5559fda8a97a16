"""Fixtures of the CRF's tests."""

import pytest

from caffe_port.crf._lattice import instructions


@pytest.fixture
def choose_instructions():
    """Chooses an instruction set for the test only."""
    before = instructions()
    yield instructions
    instructions(before)
