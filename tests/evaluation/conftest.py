"""What several tests of this folder start from."""

from __future__ import annotations

import pytest

from tests.evaluation.standins import make_voc


@pytest.fixture
def voc(tmp_path):
    """Items and label maps of ``make_voc``."""
    return make_voc(tmp_path / "voc")
