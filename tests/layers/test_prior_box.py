import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.net import Net
from caffe_port.parity import read_recording
from caffe_port.spec import NetSpec
from tests.goldens_dir import GOLDENS
from tests.layers.helpers import layer

TEXT = 'type: "PriorBox" bottom: "b0" bottom: "b1" top: "y" prior_box_param {{ {} }}'
CASE = GOLDENS / "layers" / "ssd_prior_box"


def test_every_number_is_caffes():
    recording = read_recording(CASE)
    net = Net(NetSpec.read(CASE / "net.prototxt"))
    inputs = {name: torch.from_numpy(x) for name, x in recording.inputs.items()}
    tops = [name for name in recording.data if name.startswith("prior")]
    found = net(inputs, keep=tops)
    assert len(tops) == 12
    for name in tops:
        np.testing.assert_array_equal(found[name].numpy(), recording.data[name])


def test_boxes_are_around_the_middle_of_each_cell():
    module = layer(TEXT.format("min_size: 4 variance: 0.5"), (1, 3, 1, 2), (1, 3, 8, 16))
    (y,) = module(torch.empty(1, 3, 1, 2), torch.empty(1, 3, 8, 16))
    boxes = [[2 / 16, 2 / 8, 6 / 16, 6 / 8], [10 / 16, 2 / 8, 14 / 16, 6 / 8]]
    torch.testing.assert_close(y[0, 0].view(2, 4), torch.tensor(boxes))
    assert y[0, 1].tolist() == [0.5] * 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("max_size: 3", "min_size is missing"),
        ("min_size: 0.5", "min_size is 0.5; expected 1 or more"),
        ("min_size: 4 max_size: 4", "max_size is 4; expected more than min_size 4"),
        ("min_size: 4 min_size: 5 max_size: 9", "1 max_size for 2 min_size"),
        ("min_size: 4 variance: 1 variance: 1", "2 variance; expected 1 or 4"),
        ("min_size: 4 variance: 0", "variance is 0; expected more than 0"),
        ("min_size: 4 aspect_ratio: 0", "aspect_ratio is 0; expected more than 0"),
        ("min_size: 4 img_h: 4", r"img_h, img_w are \(4, 0\); expected both above 0"),
        ("min_size: 4 img_h: 4 img_w: 4 img_size: 4", "img_size and img_h; expected one"),
        ("min_size: 4 step: 0", "step is 0"),
    ],
)
def test_options_without_a_meaning_are_refused(options, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), (1, 3, 1, 2), (1, 3, 8, 16))
