"""A net is copied, pickled, saved by torch and sent to workers, and computes the same there."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import caffe_port as cp
from caffe_port.net import Net
from tests.any_net.draft import kinds
from tests.goldens_dir import ROOT
from tests.layers.helpers import net_of
from tests.spec.making import conv, layer
from tests.torch_module.nets import image, of_kind, run, same, segmenting

RECORDING = ROOT / "examples/shapes_voc/caffe_run/recording"


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_layer_is_pickled_and_copied(kind):
    net, inputs = of_kind(kind)
    twin, copied = pickle.loads(pickle.dumps(net)), copy.deepcopy(net)
    assert twin.spec == net.spec
    wanted = run(net, inputs)
    same(run(twin, inputs), wanted)
    same(run(copied, inputs), wanted)


def seen(module, inputs, blobs):
    """A hook."""
    blobs["seen"] = torch.ones(1)


def test_a_pickled_net_keeps_its_state():
    more = 'param { name: "w" } param { name: "b" }'
    text = conv("a", "b0", more=more) + conv("b", "a", more=more) + layer("n", "BatchNorm", "b")
    net = net_of(text, (2, 3, 6, 6)).eval()
    net.write_files = True
    net.layer_params("a")[1].requires_grad_(False)
    net.layer_params("n")[2].data.fill_(3)
    net.register_forward_hook(seen)
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert twin.layer_params("a")[0] is twin.layer_params("b")[0]
        assert not twin.layer_params("b")[1].requires_grad
        assert twin.layer_params("n")[2] == 3
        assert not twin.training
        assert twin.write_files
        assert "seen" in twin(image())


def test_a_loaded_net_leaves_its_weight_file_behind():
    net = cp.load(RECORDING / "net.prototxt", RECORDING / "net.caffemodel")
    assert net.loaded.pairs
    written = pickle.dumps(net)
    weights = sum(blob.numel() * 4 for blob in net.parameters())
    assert weights < len(written) < weights + 200_000
    twin = pickle.loads(written)
    assert twin.loaded is None
    assert copy.deepcopy(net).loaded is None


def test_torch_save_and_load():
    net, stream = segmenting(), io.BytesIO()
    torch.save(net, stream)
    stream.seek(0)
    twin = torch.load(stream, weights_only=False)
    assert isinstance(twin, Net)
    same(twin(image()), net(image()))
    stream.seek(0)
    with pytest.raises(pickle.UnpicklingError, match=r"GLOBAL caffe_port\.net\.Net"):
        torch.load(stream, weights_only=True)


def test_what_loads_with_weights_only(tmp_path):
    net = segmenting()
    torch.save(net.state_dict(), tmp_path / "state.pt")
    net.save(tmp_path / "net.pt")
    other = segmenting()
    with torch.no_grad():
        for blob in other.parameters():
            blob.zero_()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    same(other(image()), net(image()))
    same(cp.load(tmp_path / "net.pt")(image()), net(image()))
    stored = torch.load(tmp_path / "net.pt", weights_only=True)["state_dict"]
    assert list(stored) == list(net.state_dict())


class Scores(Dataset[Tensor]):
    """Runs its net in the worker."""

    def __init__(self, net: Net) -> None:
        self.net = net

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.net(image()[index : index + 1])["up"][0]


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers(start):
    net = segmenting()
    loader = DataLoader(Scores(net), batch_size=2, num_workers=1, multiprocessing_context=start)
    (found,) = loader
    here = Scores(net)
    assert torch.equal(found, torch.stack([here[0], here[1]]))
