"""Data layers, fillers and dropout masks as Caffe recorded them, seeded ones number for number."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

from caffe_port import NetSpec
from caffe_port.data.rng import CaffeRandom, seeded
from caffe_port.net import Net
from tests.goldens_dir import FULL_GOLDENS, FULL_SHAPES, SHAPES, VOC_SAMPLE, cases, dialect_of


def assert_recorded(case, root):
    meta = json.loads((case / "case.json").read_text())
    spec = NetSpec.read(
        case / "net.prototxt",
        phase=meta["phase"],
        variables={"ROOT": str(root)},
        dialect=dialect_of(case),
    )
    unseeded = meta["seed"] is None
    with contextlib.nullcontext() if unseeded else seeded(CaffeRandom(meta["seed"])):
        net = Net(spec)
    with np.load(case / "case.npz") as recorded:
        for batch in range(meta["batches"]):
            blobs = net({}, keep="all")
            for key in recorded:
                number, name = key.split("/")
                if int(number) == batch:
                    np.testing.assert_array_equal(blobs[name].numpy(), recorded[key])


@pytest.mark.parametrize("case", cases("data_shapes"), ids=lambda case: case.name)
def test_what_caffe_made_of_shapes(case):
    assert_recorded(case, SHAPES)


if VOC_SAMPLE is not None:

    @pytest.mark.parametrize("case", cases("data"), ids=lambda case: case.name)
    def test_what_caffe_made_of_photographs(case):
        assert_recorded(case, VOC_SAMPLE)


if FULL_GOLDENS is not None and FULL_SHAPES is not None:

    def test_all_numbers_that_a_deep_nets_fillers_drew():
        folder = FULL_GOLDENS / "training/deeplab_from_scratch"
        spec = NetSpec.read(
            FULL_SHAPES / "caffe_run/train.prototxt",
            phase="TRAIN",
            variables={"ROOT": str(FULL_SHAPES)},
            dialect="deeplab2",
        )
        with seeded(CaffeRandom(1712)):
            net = Net(spec)
        with np.load(folder / "case.npz") as recorded:
            keys = [key for key in recorded if key.startswith("init/")]
            assert len(keys) == 32
            for key in keys:
                _, layer, index = key.split("/")
                blob = net.layer_params(layer)[int(index)].detach().numpy()
                np.testing.assert_array_equal(blob, recorded[key])
