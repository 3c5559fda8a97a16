import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.net import Net
from caffe_port.parity import read_recording
from caffe_port.spec import NetSpec
from tests.goldens_dir import GOLDENS
from tests.layers.helpers import layer

TEXT = (
    'type: "DetectionEvaluate" bottom: "b0" bottom: "b1" top: "y" '
    "detection_evaluate_param {{ num_classes: 2 {} }}"
)
CASE = GOLDENS / "layers" / "ssd_detection_evaluate"


def test_the_rows_are_caffes():
    recording = read_recording(CASE)
    net = Net(NetSpec.read(CASE / "net.prototxt"))
    inputs = {name: torch.from_numpy(x) for name, x in recording.inputs.items()}
    found = net(inputs, keep=["e0", "e1", "e2", "e3"])
    for name, blob in found.items():
        np.testing.assert_array_equal(blob.numpy(), recording.data[name])
    marks = {tuple(row) for row in recording.data["e2"][0, 0, 3:, 3:].tolist()}
    assert marks == {(1, 0), (0, 1), (0, 0)}


def rows(values, width):
    return torch.tensor(values, dtype=torch.float32).view(1, 1, -1, width)


def test_with_sizes_overlaps_are_of_pixels(tmp_path):
    """(0, 0) to (1, 1) and (1, 1) to (2, 2) share one pixel of seven."""
    sizes = tmp_path / "sizes.txt"
    sizes.write_text("a 10 10\nb 20 40\n")
    options = f'overlap_threshold: 0.14 name_size_file: "{sizes}"'
    module = layer(TEXT.format(options), (1, 1, 2, 7), (1, 1, 2, 8))
    found = rows([[0, 1, 0.9, 0, 0, 0.1, 0.1], [1, 1, 0.8, 0, 0, 0.025, 0.05]], 7)
    true = rows([[0, 1, 0, 0.1, 0.1, 0.2, 0.2, 0], [1, 1, 0, 0.025, 0.05, 0.05, 0.1, 0]], 8)
    for _ in range(2):  # the list starts again
        (y,) = module(found, true)
        assert y[0, 0, 0].tolist() == [-1, 1, 2, -1, -1]
        assert y[0, 0, 1:, 3].tolist() == [1, 1]


@pytest.mark.parametrize("text", ["a 10\n", "a x y\n", None])
def test_a_broken_list_of_sizes_is_refused(tmp_path, text):
    sizes = tmp_path / "sizes.txt"
    if text is not None:
        sizes.write_text(text)
    with pytest.raises(LayerError, match=r"sizes\.txt"):
        layer(TEXT.format(f'name_size_file: "{sizes}"'), (1, 1, 2, 7), (1, 1, 2, 8))


def test_what_is_not_implemented_is_refused():
    with pytest.raises(LayerError, match="FIT_SMALL_SIZE; only WARP"):
        layer(
            TEXT.format("resize_param { resize_mode: FIT_SMALL_SIZE }"), (1, 1, 2, 7), (1, 1, 2, 8)
        )
    module = layer(TEXT.format(""), (1, 1, 1, 7), (1, 1, 1, 8))
    with pytest.raises(LayerError, match="a detection of the background's class, 0"):
        module(torch.zeros(1, 1, 1, 7), torch.ones(1, 1, 1, 8))
