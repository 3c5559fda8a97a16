"""MatWrite: names, axes, periods; no half-written file."""

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from caffe_port.errors import LayerError
from tests.layers.helpers import layer, net_of

SHAPE = (2, 3, 4, 5)


def text(prefix, options="", bottoms=1):
    blobs = " ".join(f'bottom: "b{i}"' for i in range(bottoms))
    return f'type: "MatWrite" {blobs} mat_write_param {{ prefix: "{prefix}" {options} }}'


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_axes_and_counted_names(tmp_path):
    module = layer(text(f"{tmp_path}/fc8_", bottoms=2), SHAPE, (2, 1))
    x, dims = torch.rand(SHAPE), torch.tensor([[3.0], [4]])
    assert module(x, dims) == ()
    module(x + 1, dims)
    assert names(tmp_path) == [
        f"fc8_iter_{n}_blob_{i}.mat" for n in range(2) for i in range(2)
    ]  # fmt: skip
    data = loadmat(tmp_path / "fc8_iter_1_blob_0.mat")["data"]
    assert data.dtype == np.float32
    assert data.shape == (5, 4, 3, 2)
    assert np.array_equal(data.T, (x + 1).numpy())
    assert loadmat(tmp_path / "fc8_iter_0_blob_1.mat")["data"].shape == (1, 1, 1, 2)


def test_names_from_a_list(tmp_path):
    (tmp_path / "ids.txt").write_text("img/a.jpg seg/a.png\nb.jpg\n")
    folder = tmp_path / "out"
    module = layer(text(f"{folder}/", f'source: "{tmp_path}/ids.txt" strip: 4'), SHAPE)
    for _ in range(2):
        module(torch.rand(SHAPE))
    assert (folder / "img" / "a_blob_0.mat").exists()
    assert (folder / "b_blob_0.mat").exists()
    with pytest.raises(LayerError, match="pass 3, but source names 2 files"):
        module(torch.rand(SHAPE))


def test_only_every_period_th_pass_writes(tmp_path):
    module = layer(text(f"{tmp_path}/", "period: 3"), SHAPE)
    for _ in range(5):
        module(torch.rand(SHAPE))
    assert names(tmp_path) == ["iter_0_blob_0.mat", "iter_3_blob_0.mat"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    module = layer(text(f"{tmp_path}/"), SHAPE)
    module(torch.zeros(SHAPE))
    before = (tmp_path / "iter_0_blob_0.mat").read_bytes()

    def broken(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("scipy.io.savemat", broken)
    module.passes = 0
    with pytest.raises(OSError, match="disk full"):
        module(torch.ones(SHAPE))
    assert names(tmp_path) == ["iter_0_blob_0.mat"]
    assert (tmp_path / "iter_0_blob_0.mat").read_bytes() == before


def test_a_net_writes_only_on_request(tmp_path):
    net = net_of(f'layer {{ name: "w" {text(f"{tmp_path}/")} }}', SHAPE)
    net({"b0": torch.rand(SHAPE)})
    assert names(tmp_path) == []
    net.write_files = True
    net({"b0": torch.rand(SHAPE)})
    assert names(tmp_path) == ["iter_0_blob_0.mat"]


def test_a_missing_list_is_an_error_only_when_writing(tmp_path):
    options = text(f"{tmp_path}/", 'source: "nowhere.txt"')
    net = net_of(f'layer {{ name: "w" {options} }}', SHAPE)
    net({"b0": torch.rand(SHAPE)})
    net.write_files = True
    with pytest.raises(LayerError, match=r"'w' \(MatWrite\).*cannot be read"):
        net({"b0": torch.rand(SHAPE)})


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("period: 0", SHAPE, "period is 0"),
        ("strip: -1", SHAPE, "strip is -1"),
        ("", (1, 1, 1, 1, 1), "up to 4 axes"),
    ],
)
def test_what_it_refuses(options, shape, message):
    with pytest.raises(LayerError, match=message):
        layer(text("x", options), shape)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "/x", "x\0y", "./../../x"])
def test_a_list_cannot_lead_out_of_the_prefix(tmp_path, monkeypatch, name):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    (tmp_path / "list.txt").write_text(f"good\n{name}\n")
    prefix = "" if name.startswith("/") else "out/"
    module = layer(text(prefix, f'source: "{tmp_path}/list.txt"'), SHAPE)
    with pytest.raises(LayerError, match="the list's name"):
        module(torch.rand(SHAPE))
    assert names(tmp_path) == ["in", "list.txt"]
    assert names(tmp_path / "in") == []


def test_folders_below_the_prefix_are_made(tmp_path):
    (tmp_path / "list.txt").write_text("/a/b\nc/../d\n")
    module = layer(text(f"{tmp_path}/out/", f'source: "{tmp_path}/list.txt"'), SHAPE)
    for _ in range(2):
        module(torch.rand(SHAPE))
    found = {str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/**/*.mat")}
    assert found == {"a/b_blob_0.mat", "d_blob_0.mat"}


def test_a_link_in_the_folder_is_replaced(tmp_path):
    (tmp_path / "other").write_text("kept")
    (tmp_path / "iter_0_blob_0.mat").symlink_to(tmp_path / "other")
    layer(text(f"{tmp_path}/"), SHAPE)(torch.rand(SHAPE))
    assert (tmp_path / "other").read_text() == "kept"
    assert not (tmp_path / "iter_0_blob_0.mat").is_symlink()
