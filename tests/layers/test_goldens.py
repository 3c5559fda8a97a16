"""Every recorded layer against real Caffe, forward and backward."""

import pytest

from caffe_port.parity import read_recording
from caffe_port.proto.dialects import ENVIRONMENT
from tests.goldens_dir import cases, dialect_of
from tests.verifying import unknown_types, verify_case, verify_changed_params

CASES = cases("layers")
KNOWN = [folder for folder in CASES if not unknown_types(folder)]
CHANGING = [folder for folder in KNOWN if read_recording(folder).after]
#: Types of recorded cases that are not built yet; it may only shrink.
NOT_YET: set[str] = set()


def test_no_other_type_is_left_out():
    left_out = set().union(*(unknown_types(folder) for folder in CASES))
    assert left_out <= NOT_YET
    assert len(KNOWN) >= 200


@pytest.mark.parametrize("folder", KNOWN, ids=lambda folder: folder.name)
def test_layer_equals_caffe(folder):
    verify_case(folder, isolate=False)


@pytest.mark.parametrize("folder", CHANGING, ids=lambda folder: folder.name)
def test_what_a_forward_pass_changes(folder, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, dialect_of(folder))
    assert verify_changed_params(folder) > 0
