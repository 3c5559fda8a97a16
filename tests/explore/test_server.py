"""What the page is answered equals what the commands and the Python interface compute."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.crf import PRESETS, CRFParameters, parse_parameters
from caffe_port.data.images import read_bgr, read_labels
from caffe_port.evaluation.scoring import ConfusionMatrix
from caffe_port.exploring.labels import crf_text
from caffe_port.exploring.sessions import Limits
from caffe_port.unravel import trace
from caffe_port.unravel.points import placements
from tests.explore.client import (
    IMAGE,
    IMAGES,
    MASK,
    NAMES,
    RUN,
    TRUTH,
    Client,
    RefusedError,
    net,
    segmenter,
)

NINE = {"pos_w": [1] * 9, "pos_xy_std": [1] * 9}  # kernels


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def bare_crf(labels, **values):
    return {"parameters": PRESETS["v1_largefov"].as_dict() | values, "colours": labels}


def test_the_page_and_all_its_files_are_served(client):
    text = client.get("").decode()
    assert "<title>caffe_port explore</title>" in text
    for name in ("app.js", "api.js", "stage.js", "style.css", "icon.svg", "crf.js"):
        status, headers, content = client.request("GET", f"page/{name}")
        assert (status, len(content) > 100) == (200, True)
        kind = {"js": "javascript", "css": "css", "svg": "svg"}[name.rpartition(".")[2]]
        assert kind in headers["content-type"]
    # no address of another server anywhere
    files = [client.get(f"page/{name}").decode() for name in ("app.js", "api.js", "style.css")]
    assert not any("https://" in content for content in [text, *files])


def test_what_the_page_is_told_of_the_model(client):
    found = json.loads(client.get("api/subject"))
    assert found["classes"] == NAMES.read_text().split()
    assert found["presets"]["v2_vgg16"] == PRESETS["v2_vgg16"].as_dict()
    assert len(found["samples"]) == found["all_samples"] == len(list(IMAGES.glob("*.jpg")))
    assert found["recording"]
    assert found["run"]


def test_labels_confidence_and_entropy_are_those_of_the_segmenter(client):
    head, arrays = client.open().show()
    result = segmenter()(IMAGE)
    assert (head["height"], head["width"]) == result.labels.shape
    assert head["name"] == "photo.jpg"
    np.testing.assert_array_equal(arrays["labels"], result.labels)
    np.testing.assert_array_equal(arrays["image"], result.image)
    for name in ("confidence", "entropy"):
        exact = getattr(result, name) * 65535
        assert np.abs(arrays[name] - exact).max() <= 0.51
    assert head["found"] == [[one.label, one.name, one.share] for one in result.found]


@pytest.mark.parametrize("kind", ["score", "probability"])
def test_the_values_of_one_class(tab, kind):
    head, arrays = tab.post("values", {"label": 2, "kind": kind, "which": "network"})
    result = segmenter()(IMAGE)
    wanted = (result.scores if kind == "score" else result.probabilities)[2]
    np.testing.assert_array_equal(arrays["values"], wanted)
    assert head["range"] == [float(wanted.min()), float(wanted.max())]


@pytest.mark.parametrize("colours", ["layer", "rgb"])
def test_the_crf_is_that_of_the_segmenter(tab, colours):
    head, arrays = tab.post("crf", bare_crf(colours, bi_w=5.5, bi_xy_std=49))
    settings = CRFParameters(bi_w=5.5, bi_xy_std=49)
    result = segmenter(crf=settings, crf_colours=colours)(IMAGE)
    np.testing.assert_array_equal(arrays["labels"], result.labels)
    before = segmenter()(IMAGE).labels
    assert head["changed"] == (before != result.labels).sum() > 0
    values = tab.post("values", {"label": 1, "kind": "probability", "which": "crf"})[1]
    np.testing.assert_array_equal(values["values"], result.refined[1])


def test_the_crf_equals_the_command_bit_for_bit(tab, tmp_path):
    scores = tmp_path / "scores"
    scores.mkdir()
    np.save(scores / "shape_val_0001.npy", segmenter()(IMAGE).scores)
    words = [
        "-i",
        "7",
        "-px",
        "2",
        "-py",
        "2",
        "-pw",
        "3",
        "-bx",
        "60",
        "-by",
        "60",
        "-br",
        "8",
        "-bg",
        "8",
        "-bb",
        "8",
        "-bw",
        "6",
    ]
    done = CliRunner().invoke(main, [
        "crf", "-id", str(IMAGES), "-fd", str(scores), "-sd", str(tmp_path), *words,
        "--probabilities", "npy",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    settings = {"pos_w": 3, "pos_xy_std": 2, "bi_w": 6, "bi_xy_std": 60, "bi_rgb_std": 8}
    asked = {"parameters": settings | {"iterations": 7}, "colours": "rgb"}
    # weights change last, so that the kept lattices are used
    tab.post("crf", {"parameters": asked["parameters"] | {"bi_w": 1, "pos_w": 9}, "colours": "rgb"})
    _, arrays = tab.post("crf", asked)
    np.testing.assert_array_equal(arrays["labels"], read_labels(tmp_path / "shape_val_0001.png"))
    refined = np.load(tmp_path / "shape_val_0001.npy")
    for label in range(len(refined)):
        asked_values = {"label": label, "kind": "probability", "which": "crf"}
        found = tab.post("values", asked_values)[1]["values"]
        np.testing.assert_array_equal(found, refined[label])


def test_several_kernels_and_their_setting(tab):
    settings = CRFParameters((3, 0.1), (3, 1), (4, 2.5), (121, 30), (5, 13), 4)
    head, arrays = tab.post("crf", {"parameters": settings.as_dict(), "colours": "layer"})
    np.testing.assert_array_equal(arrays["labels"], segmenter(crf=settings)(IMAGE).labels)
    assert parse_parameters(head["setting"].removeprefix("--crf ")) == settings


@pytest.mark.parametrize("settings", [*PRESETS.values(), CRFParameters(1e-7, 1 / 3, 1e22, 0.1, 7)])
def test_the_copied_setting_is_read_back(settings):
    assert parse_parameters(crf_text(settings).removeprefix("--crf ")) == settings


def test_the_iou_before_and_after(tab):
    head, arrays = tab.post("truth?name=mask.png", MASK.read_bytes())
    truth = read_labels(MASK)
    np.testing.assert_array_equal(arrays["truth"], truth)
    refined = tab.post("crf", bare_crf("rgb"))
    assert (refined[1]["labels"] != arrays["labels"]).any()
    for found, labels in (
        (head["iou"], arrays["labels"]),
        (refined[0]["iou"], refined[1]["labels"]),
    ):
        matrix = ConfusionMatrix(6)
        matrix.add(truth, labels)
        assert found["mean"] == matrix.mean_iou()
        assert found["accuracy"] == matrix.pixel_accuracy()
        wanted = [None if np.isnan(value) else value for value in matrix.iou().tolist()]
        assert found["classes"] == wanted
    assert tab.post("truth", b"")[0]["iou"] is None


def test_a_sample_has_its_truth(client):
    names = json.loads(client.get("api/subject"))["samples"]
    number = names.index("shape_val_0002.jpg")
    head, arrays = client.open().post(f"image?sample={number}", b"")
    assert head["name"] == "shape_val_0002.jpg"
    np.testing.assert_array_equal(arrays["truth"], read_labels(TRUTH / "shape_val_0002.png"))
    assert head["iou"]["mean"] > 0.5
    with Image.open(io.BytesIO(client.get(f"api/samples/{number}"))) as small:
        assert small.format == "JPEG"
        assert max(small.size) <= 160


def input_and_traces(label_map, labels=None, **options):
    crop = np.zeros((1, 3, 161, 161), np.float32)
    bgr = read_bgr(IMAGE)
    mean = np.array(segmenter().mean, np.float32)
    crop[0, :, : bgr.shape[0], : bgr.shape[1]] = (bgr.astype(np.float32) - mean).transpose(2, 0, 1)
    padded = np.full((161, 161), -1, np.int64)
    padded[: bgr.shape[0], : bgr.shape[1]] = label_map
    return trace(net(), crop, "fc8_interp", labels, label_map=padded, **options)


def place_of(labels, label):
    ys, xs = np.nonzero(labels == label)
    middle = len(ys) // 2
    return int(ys[middle]), int(xs[middle])


@pytest.mark.parametrize("shift", ["full_shift", "no_shift", "partial_shift"])
def test_the_points_of_a_pixel_are_those_of_trace(tab, shift):
    labels = segmenter()(IMAGE).labels
    y, x = place_of(labels, 1)
    head, arrays = tab.post("trace", {"region": "pixel", "y": y, "x": x, "shift": shift})
    label_map = np.full(labels.shape, -1)
    label_map[y, x] = 1
    traces = input_and_traces(label_map, shift=shift)
    assert head["label"] == 1
    assert head["points"] == len(traces.arrived(1, "data"))
    inside = traces.arrived(1, "data")
    inside = inside[(inside[:, 1] < labels.shape[0]) & (inside[:, 2] < labels.shape[1])]
    np.testing.assert_array_equal(arrays["ends"], inside)
    # every layer's points, at their places in the image
    placed = placements(net().spec, traces.shapes)
    shown = {panel["blob"]: panel for frame in head["frames"] for panel in frame}
    assert len(shown) > 15
    for blob, panel in shown.items():
        assert panel["points"] == len(traces.arrived(1, blob))
        wanted = np.unique(placed[blob].of(traces.arrived(1, blob)), axis=0)
        wanted = wanted[(wanted >= -0.5).all(1) & (wanted < np.array(labels.shape) - 0.5).all(1)]
        found = arrays["places"][panel["start"] : panel["start"] + panel["count"]]
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_regions_and_another_class(tab):
    labels = segmenter()(IMAGE).labels
    y, x = place_of(labels, 1)
    asked = {"y": y, "x": x}
    whole = tab.post("trace", asked | {"region": "class"})[0]
    traces = input_and_traces(np.where(labels == 1, 1, -1))
    assert whole["points"] == len(traces.arrived(1, "data"))
    part = tab.post("trace", asked | {"region": "object"})[0]
    assert 0 < part["points"] <= whole["points"]
    box = {"region": "rectangle", "y1": max(0, y - 9), "x1": min(x + 9, labels.shape[1] - 1)}
    drawn = tab.post("trace", asked | box)[0]
    mask = np.zeros(labels.shape, bool)
    mask[box["y1"] : y + 1, x : box["x1"] + 1] = True
    most = int(np.bincount(labels[mask]).argmax())
    traces = input_and_traces(np.where(mask & (labels == most), most, -1))
    assert (drawn["label"], drawn["points"]) == (most, len(traces.arrived(most, "data")))
    other = tab.post("trace", asked | {"region": "pixel", "label": 3})[0]
    one = np.full(labels.shape, -1)
    one[y, x] = 3
    assert other["label"] == 3
    assert other["points"] == len(input_and_traces(one, [3]).arrived(3, "data"))


def test_the_evidence_is_measured_against_the_truth(tab):
    tab.post("truth?name=mask.png", MASK.read_bytes())
    truth = read_labels(MASK)
    y, x = place_of(segmenter()(IMAGE).labels, 1)
    head, arrays = tab.post("trace", {"region": "class", "y": y, "x": x})
    ends = arrays["ends"]
    on = truth[ends[:, 1], ends[:, 2]]
    counted = (on != 255).sum() + head["points"] - len(ends)
    assert head["evidence"]["of_truth"]
    assert head["evidence"]["inside"] == pytest.approx((on == 1).sum() / counted)
    shares = dict(head["evidence"]["on"])
    assert sum(shares.values()) + head["evidence"]["padding"] == pytest.approx(1)
    assert arrays["heat"].max() == 255


def test_an_image_larger_than_the_input_is_traced_in_its_window(client):
    pixels = np.tile(np.asarray(Image.open(IMAGE)), (3, 3, 1))
    one = client.open()
    one.show(png(pixels))
    head, arrays = one.post("trace", {"region": "pixel", "y": 200, "x": 300})
    top, left, height, width = head["window"]
    assert top <= 200 < top + height
    assert left <= 300 < left + width
    assert (height, width) == (161, 161)
    ends = arrays["ends"]
    assert (ends[:, 1] >= top).all()
    assert (ends[:, 2] >= left).all()
    found = one.post("channels", {"blob": "conv1_1"})[0]
    assert found["size"] == [161, 161]


def test_blobs_are_those_of_the_forward_pass(tab):
    listed = {one["name"]: one for one in tab.post("blobs")[0]["blobs"]}
    bgr = read_bgr(IMAGE)
    crop = torch.zeros(1, 3, 161, 161)
    crop[0, :, : bgr.shape[0], : bgr.shape[1]] = segmenter().network_input(bgr)
    with torch.no_grad():
        blobs = net()({"data": crop}, keep="all")
    assert list(listed) == [name for name in blobs if name in listed]
    assert listed["conv1_1"]["layers"] == [["conv1_1", "Convolution"], ["relu1_1", "ReLU"]]
    for name, one in listed.items():
        assert one["shape"] == list(blobs[name].shape)
        assert one["range"] == [float(blobs[name].min()), float(blobs[name].max())]
    found = tab.post("channel", {"blob": "pool2", "channel": 5})[1]["values"]
    np.testing.assert_array_equal(found, blobs["pool2"][0, 5].numpy())
    head, arrays = tab.post("channels", {"blob": "fc7", "first": 96})
    assert (head["channels"], len(head["ranges"])) == (128, 32)
    np.testing.assert_array_equal(arrays["tiles"], blobs["fc7"][0, 96:].numpy())


def test_the_filters_of_the_first_convolution(client):
    head, arrays = client.post("api/model/weights")
    weights = net().layer_params("conv1_1")[0].detach().numpy()
    assert head["layer"] == "conv1_1"
    np.testing.assert_array_equal(arrays["filters"], weights)


def test_the_comparison_with_the_recording(client, tab):
    head, _ = client.post("api/model/parity")
    assert head["passed"]
    assert head["first_bad"] is None
    row = next(row for row in head["rows"] if row["name"] == "conv3_3")
    assert (row["verdict"], row["kind"]) == ("pass", "data")
    asked = {"kind": "data", "blob": "conv3_3"}
    found, arrays = client.post("api/model/difference", asked)
    assert max(map(abs, found["range"])) == pytest.approx(row["distance"])
    one = tab.post("channel", asked | {"channel": 3})[1]["values"]
    np.testing.assert_array_equal(one, arrays["tiles"][3])


@pytest.mark.parametrize(
    ("what", "asked", "words"),
    [
        ("values", {"label": 6}, "class 6; expected 0 to 5"),
        ("values", {"label": "1"}, "class '1'"),
        ("crf", {}, "expected the CRF's parameters"),
        ("crf", {"parameters": {"bi_w": "x"}, "colours": "rgb"}, "bi_w"),
        ("crf", {"parameters": {"bi_xy_std": 0}, "colours": "rgb"}, "bi_xy_std"),
        ("crf", {"parameters": {"iterations": 1000}, "colours": "rgb"}, "at most 100"),
        ("crf", {"parameters": NINE, "colours": "rgb"}, "of 8"),
        ("trace", {"region": "pixel", "y": 120, "x": 0}, "y is 120; expected 0 to 119"),
        ("trace", {"region": "pixel", "y": 0.5, "x": 0}, "y is 0.5"),
        ("trace", {"region": "all", "y": 0, "x": 0}, "region is 'all'"),
        ("trace", {"region": "pixel", "y": 0, "x": 0, "shift": "odd"}, "shift 'odd'"),
        ("trace", {"region": "pixel", "y": 0, "x": 0, "label": 99}, "class 99"),
        ("trace", {"region": "rectangle", "y": 0, "x": 0}, "y is None"),
        ("channels", {"blob": "none"}, "'none' is not a blob"),
        ("channels", {"blob": "fc7", "first": 128}, "first is 128"),
        ("channel", {"blob": "fc7", "channel": -1}, "channel -1"),
        ("channel", {"blob": "fc7", "channel": 0, "kind": "diff"}, "no diff of 'fc7'"),
        ("truth?name=m.png", png(np.zeros((3, 4), np.uint8)), "4 x 3 pixels; the image has 160"),
        ("truth?name=m.png", png(np.full((120, 160), 9, np.uint8)), "label 9"),
        ("image?name=a.jpg", b"no image", "a.jpg: not an image that can be decoded"),
        ("image?sample=9999", b"", "image 9999; there are"),
        ("image?sample=../x", b"", "image -1; there are"),
    ],
)  # fmt: skip
def test_wrong_requests_are_refused_in_words(tab, what, asked, words):
    with pytest.raises(RefusedError, match=words) as refused:
        tab.post(what, asked)
    assert (refused.value.status, refused.value.code) == (400, "wrong")
    assert tab.post("blobs")[0]["blobs"]  # the image is still there


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b"{}" + b" " * 70000, b"[" * 60000])
def test_bodies_that_are_no_json(tab, body):
    with pytest.raises(RefusedError, match="JSON"):
        tab.post("crf", body)


def test_a_page_before_its_image_and_an_unknown_session(client):
    with pytest.raises(RefusedError, match="no image") as refused:
        client.open().post("crf", bare_crf("rgb"))
    assert (refused.value.status, refused.value.code) == (410, "session")
    with pytest.raises(RefusedError, match="unknown") as refused:
        client.post("api/sessions/none/crf", {})
    assert refused.value.code == "session"


def test_two_tabs_have_images_of_their_own(client):
    first, second = client.open(), client.open()
    first.show()
    second.show((IMAGES / "shape_val_0002.jpg").read_bytes())
    for one, name in ((first, "shape_val_0001"), (second, "shape_val_0002")):
        found = one.post("crf", bare_crf("rgb"))[1]["labels"]
        wanted = segmenter(crf="v1_largefov", crf_colours="rgb")(IMAGES / f"{name}.jpg")
        np.testing.assert_array_equal(found, wanted.labels)


def test_a_large_image_is_reduced_and_a_huge_one_refused():
    import caffe_port as cp

    with cp.explore(segmenter(), limits=Limits(pixels=10_000)) as page:
        client = Client(page.url)
        one = client.open()
        head, arrays = one.show()
        assert head["stored"] == [120, 160]
        assert head["height"] * head["width"] <= 10_000
        assert arrays["labels"].shape == (head["height"], head["width"])
        found = one.post("truth?name=m.png", MASK.read_bytes())[1]["truth"]
        mask = read_labels(MASK)
        for i, j in np.ndindex(found.shape):
            inside = [(at + 0.5) / new * old for at, new, old in
                      zip((i, j), found.shape, mask.shape, strict=True)]  # fmt: skip
            assert found[i, j] == mask[int(inside[0]), int(inside[1])]
        with pytest.raises(RefusedError, match="too large to be decoded safely"):
            one.show(png(np.zeros((5000, 5000), np.uint8)))
        client.close()


def test_without_recording_run_and_images():
    import caffe_port as cp

    with cp.explore(segmenter()) as page:
        client = Client(page.url)
        assert json.loads(client.get("api/subject"))["samples"] == []
        with pytest.raises(RefusedError, match="--recording"):
            client.post("api/model/parity")
        with pytest.raises(RefusedError, match="no such request"):
            client.post("api/model/run")
        with pytest.raises(RefusedError, match="no run is watched"):
            client.get("api/maps/0")
        client.close()


def test_the_command_refuses_what_it_cannot_use(tmp_path, monkeypatch):
    def output(*words):
        done = CliRunner().invoke(main, ["explore", *map(str, words)])
        assert done.exit_code == 2, done.output
        return done.output

    model = RUN / "recording" / "net.prototxt"
    weights = RUN / "model" / "train_iter_2400.caffemodel"
    assert "holds no weights" in output(model)
    assert "hold no image" in output(model, weights, "--images", tmp_path)
    assert "without a folder of images" in output(model, weights, "--truth", tmp_path)
    monkeypatch.setenv("CAFFE_PORT_EXPLORE_TOKEN", "short")
    assert "22 to 128 random letters" in output(model, weights)
