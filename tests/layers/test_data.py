"""Data as a layer: shapes, tops, backends. Recorded values: tests/data/test_recorded.py."""

import io

import lmdb
import numpy as np
import pytest
from PIL import Image

from caffe_port import NetSpec
from caffe_port.data.rng import CaffeRandom, seeded
from caffe_port.errors import DataError, LayerError
from caffe_port.net import Net
from caffe_port.proto import caffe_pb2, parse_net
from tests.layers.helpers import net_of

PICTURES = np.random.default_rng(4).integers(0, 256, (3, 3, 6, 8), np.uint8)


def encoded(picture):
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture[::-1].transpose(1, 2, 0))).save(stream, "PNG")
    return caffe_pb2.Datum(encoded=True, data=stream.getvalue())


def plain(picture):
    return caffe_pb2.Datum(channels=3, height=6, width=8, data=picture.tobytes())


def write(path, data):
    with lmdb.open(str(path)) as database, database.begin(write=True) as writing:
        for label, datum in enumerate(data):
            datum.label = label
            writing.put(f"{label:08}".encode(), datum.SerializeToString())
    return path


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "db", map(plain, PICTURES))


def text(source, transform="", options="batch_size: 2", backend="backend: LMDB", tops="data label"):
    names = " ".join(f'top: "{top}"' for top in tops.split())
    return (
        f'layer {{ name: "d" type: "Data" {names} transform_param {{ {transform} }} '
        f'data_param {{ source: "{source}" {options} {backend} }} }}'
    )


def test_batches_go_round_and_records_may_be_encoded(tmp_path, source):
    others = write(tmp_path / "encoded", map(encoded, PICTURES))
    for path in (source, others):
        net = net_of(text(path))
        assert net.spec.shapes == {"data": (2, 3, 6, 8), "label": (2,)}
        for items in ([0, 1], [2, 0], [1, 2]):
            blobs = net({})
            np.testing.assert_array_equal(blobs["data"].numpy(), PICTURES[items])
            assert blobs["label"].tolist() == items


def test_one_top_and_grey(tmp_path):
    others = write(tmp_path / "encoded", map(encoded, PICTURES))
    net = net_of(text(others, "force_gray: true crop_size: 4", tops="data"))
    assert net.spec.shapes == {"data": (2, 1, 4, 4)}
    assert net({})["data"].shape == (2, 1, 4, 4)


@pytest.mark.parametrize(("dialect", "before"), [("bvlc", 1), ("deeplab2", 2)])
def test_training_draws(source, dialect, before):
    parsed = parse_net(text(source, "mirror: true crop_size: 5"))
    spec = NetSpec.build(parsed.message, phase="TRAIN", dialect=dialect)
    thread = CaffeRandom(8)
    with seeded(CaffeRandom(8)):
        net = Net(spec)
    random = CaffeRandom(thread.draws(before + 1)[-1].item())
    for picture, top in zip(PICTURES[[0, 1]], net({})["data"].numpy(), strict=True):
        flip, y, x = random.draw() % 2, random.draw() % 2, random.draw() % 4
        want = picture[:, y : y + 5, x : x + 5]
        np.testing.assert_array_equal(top, want[:, :, ::-1] if flip else want)


def test_deeplab_v1_skips_and_renews(source):
    parsed = parse_net(text(source, "mirror: true", "batch_size: 1 rand_skip: 3"))
    spec = NetSpec.build(parsed.message, phase="TRAIN", dialect="deeplab1")
    with seeded(CaffeRandom(8)):
        net = Net(spec)
    draws = CaffeRandom(8).draws(10).tolist()
    place = draws[0] % 3
    for turn in range(6):
        flip = CaffeRandom(draws[2 + turn]).draw() % 2  # draw 1 is replaced before it is used
        want = PICTURES[(place + turn) % 3]
        np.testing.assert_array_equal(net({})["data"][0].numpy(), want[:, :, :: -1 if flip else 1])


def test_later_caffes_ignore_rand_skip(source):
    net = net_of(text(source, options="batch_size: 1 rand_skip: 3"))
    assert [int(net({})["label"][0]) for _ in range(3)] == [0, 1, 2]


def test_an_lmdb_without_its_backend_is_named(source):
    message = "holds a database of kind lmdb, but the backend is leveldb; choose lmdb"
    with pytest.raises(LayerError, match=message):
        net_of(text(source, backend=""))


def test_given_data_needs_no_database():
    parsed = parse_net(text("gone", backend=""))
    spec = NetSpec.build(parsed.message, input_shapes={"data": (1, 3, 2, 2), "label": (1,)})
    net = Net(spec)
    blobs = net({"data": np.ones((1, 3, 2, 2), "f4"), "label": np.zeros(1, "f4")}, keep="all")
    assert (blobs["data"] == 1).all()
    with pytest.raises(DataError, match="not a LevelDB"):
        net({})


def test_records_of_other_sizes(tmp_path):
    small = caffe_pb2.Datum(channels=3, height=1, width=8, data=bytes(24))
    source = write(tmp_path / "db", [plain(PICTURES[0]), small])
    with pytest.raises(DataError, match=r"record b'00000001': \(3, 1, 8\), the first one of its"):
        net_of(text(source))({})
    with pytest.raises(DataError, match="record b'00000001': 8x1, smaller than crop_size 5"):
        net_of(text(source, "crop_size: 5"))({})


def test_a_database_that_was_cut_short(tmp_path):
    large = caffe_pb2.Datum(channels=1, height=90, width=90, data=bytes(8100))
    source = write(tmp_path / "db", [large] * 4)
    net = net_of(text(source))
    content = (source / "data.mdb").read_bytes()
    (source / "data.mdb").write_bytes(content[:-4096])
    with pytest.raises(DataError, match=r"data\.mdb: byte \d+: .*; the database is damaged"):
        [net({}) for _ in range(2)]
    with pytest.raises(DataError, match="cannot be read any further after an error"):
        net({})


@pytest.mark.parametrize(
    ("transform", "options", "message"),
    [
        ("", "", "batch_size is 0"),
        ("crop_size: 9", "batch_size: 1", "crop_size 9 of an item of 8x6"),
        ("mean_file: 'm' mean_value: 1", "batch_size: 1", "mean_file and mean_value exclude"),
    ],
)
def test_what_it_refuses(source, transform, options, message):
    with pytest.raises(LayerError, match=message):
        net_of(text(source, transform, options))


def test_a_missing_database():
    with pytest.raises(LayerError, match="shape follows from the first record: gone: cannot be"):
        net_of(text("gone"))
