"""MatRead: what MatWrite wrote comes back."""

import pytest
import torch

from caffe_port.data.mat import write_mat
from caffe_port.errors import LayerError
from tests.layers.helpers import layer, net_of


def text(prefix, options="", tops=1):
    blobs = " ".join(f'top: "y{i}"' for i in range(tops))
    return f'type: "MatRead" {blobs} mat_read_param {{ prefix: "{prefix}" {options} }}'


@pytest.fixture
def written(tmp_path):
    """Three items of two blobs under ids a, b, c, and the first two under iter_0, iter_1."""
    items = [[torch.rand(1, 2, 3, 4), torch.rand(1, 5, 1, 1)] for _ in range(3)]
    for item, stems in zip(items, (["a", "iter_0"], ["b", "iter_1"], ["c"]), strict=True):
        for stem in stems:
            for i, blob in enumerate(item):
                write_mat(tmp_path / f"f_{stem}_blob_{i}.mat", blob.numpy())
    (tmp_path / "ids.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
    return tmp_path, items


def test_batches_by_list_which_starts_over(written):
    folder, items = written
    options = f'source: "{folder}/ids.txt" strip: 4 batch_size: 2'
    module = layer(text(f"{folder}/f_", options, 2))
    assert module.spec.top_shapes == ((2, 2, 3, 4), (2, 5, 1, 1))
    for first, second in ((0, 1), (2, 0), (1, 2)):
        for top, i in zip(module(), (0, 1), strict=True):
            assert torch.equal(top, torch.cat([items[first][i], items[second][i]]))


def test_counted_names_without_a_list(written):
    folder, items = written
    module = layer(text(f"{folder}/f_"))
    for item in items[:2]:
        assert torch.equal(module()[0], item[0])
    with pytest.raises(LayerError, match=r"iter_2_blob_0.mat: the MAT file cannot be read"):
        module()


def test_a_net_reads_or_is_given_the_blob(written):
    folder, items = written
    reader = f'layer {{ name: "r" {text(f"{folder}/f_")} }}'
    net = net_of(reader + ' layer { name: "s" type: "ReLU" bottom: "y0" top: "z" }')
    assert torch.equal(net({})["z"], items[0][0])
    given = -torch.rand(1, 2, 3, 4)
    assert not net({"y0": given})["z"].any()


def test_another_shape_is_refused(written):
    folder, _ = written
    module = layer(text(f"{folder}/f_"))
    write_mat(folder / "f_iter_0_blob_0.mat", torch.rand(1, 2, 3, 3).numpy())
    with pytest.raises(LayerError, match=r"expected \(1, 2, 3, 4\)"):
        module()


def test_files_that_are_missing_or_hold_a_batch(tmp_path):
    with pytest.raises(LayerError, match="the shape follows from the first file"):
        layer(text(f"{tmp_path}/"))
    write_mat(tmp_path / "iter_0_blob_0.mat", torch.rand(2, 1, 1, 1).numpy())
    with pytest.raises(LayerError, match="holds 2 items; expected 1"):
        layer(text(f"{tmp_path}/"))
    (tmp_path / "ids.txt").write_text("")
    with pytest.raises(LayerError, match="is empty"):
        layer(text(f"{tmp_path}/", f'source: "{tmp_path}/ids.txt"'))


@pytest.mark.parametrize("options", ["batch_size: 0", "strip: -1"])
def test_options_it_refuses(options):
    with pytest.raises(LayerError, match="expected"):
        layer(text("x", options))
