"""Tables of speed and accuracy in the documents are what the named benchmarks measured."""

from __future__ import annotations

import json
import math
import re

import pytest

from caffe_port.export import emit_module
from caffe_port.net import Net
from caffe_port.spec import NetSpec
from tests.docs.figures import cell, page, shows, tables
from tests.goldens_dir import ROOT

PERFORMANCE = page("performance")


def test_the_table_of_evaluation():
    found = tables("evaluate")["network and CRF, overlapped"]
    columns = ("network alone", "CRF alone", "ms/image", "to the slower", "to both in turn",
               "cores busy")  # fmt: skip
    for row, name in (
        ("LargeFOV, 513 x 513, photographs", "LargeFOV, 513 x 513"),
        ("thin LargeFOV, 161 x 161", "thin LargeFOV, 161 x 161"),
    ):
        for column, key in enumerate(columns, 1):
            assert shows(cell(PERFORMANCE, row, column), found[name][key]), (row, key)


def test_the_goals_that_were_reached():
    loading = tables("loading")["82 MB caffemodel; ratio to one copy"]
    memory = tables("loading")["peak memory above the start"]["caffe_port"]["times the file"]
    wanted = [
        loading["caffe_port, aligned arrays"]["ratio"], memory,
        loading["caffe_port, listing only"]["ratio"],
        loading["OpenCV readNetFromCaffe"]["ratio"], loading["protobuf and numpy"]["ratio"],
    ]  # fmt: skip
    shown = re.findall(r"\d+\.\d+", cell(PERFORMANCE, "an 82 MB caffemodel into tensors", 2))
    assert all(map(shows, shown, wanted)), (shown, wanted)
    traced = tables("unravel")
    wanted = [
        traced[name]["trace, its own forward pass included"]["ratio"]
        for name in ("LargeFOV (at most 2 forward passes)",
                     "ResNet-101 MSc (at most 4 forward passes)")
    ]  # fmt: skip
    shown = re.findall(r"\d+\.\d+", cell(PERFORMANCE, "unravel all labels of an image", 2))
    assert all(map(shows, shown, wanted)), (shown, wanted)
    train = tables("train")
    wanted = [
        train[f"LargeFOV, {name}, 113 x 113"]["caffe train"]["ratio"]
        for name in ("thin, batch 8", "published widths, batch 2")
    ]
    shown = re.findall(r"\d+\.\d+", cell(PERFORMANCE, "training in Caffe's order", 2))
    assert all(map(shows, shown, wanted)), (shown, wanted)


def test_the_tables_of_the_continued_run():
    text = page("continued_run")
    path = ROOT / "benchmarks" / "results" / "continued.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    (scores,) = results["tables"].values()
    for row, name in (
        ("Caffe, uninterrupted", "Caffe, unbroken"),
        ("**caffe_port, resumed", "continued here from Caffe's step 1,200"),
        ("caffe_port, from scratch, two", "here, from scratch"),
    ):
        for column, when in enumerate(("before", "after"), 1):
            assert shows(cell(text, row, column), scores[name][when]), row
    for line in re.findall(r"^\| [\d,]+ \|.*$", text, re.M):
        step, *shown = (part.strip() for part in line.strip("|").split("|"))
        for figure, curve in zip(shown, results["curves"].values(), strict=True):
            if figure:
                assert shows(figure, dict(curve)[int(step.replace(",", ""))]), line


def test_the_figures_of_the_comparison():
    """docs/compared.md repeats figures of the benchmarks."""
    text = page("compared")
    crf = tables("crf")["compared with pydensecrf, 10 iterations"]["500 x 375, 21 labels"]
    loading = tables("loading")["82 MB caffemodel; ratio to one copy"]
    (reading,) = re.findall(r"([\d.]+) \(", cell(text, "OpenCV 4.14", 4))
    opencv = loading["OpenCV readNetFromCaffe"]["ratio"]
    assert shows(reading, opencv / loading["caffe_port, aligned arrays"]["ratio"])
    forward = tables("forward")["LargeFOV 513 x 513, 1 thread"]
    for row, engine in (("ONNX Runtime", "onnxruntime"), ("OpenVINO 2026.4", "openvino")):
        ratio = forward[engine]["CPU s"] / forward["optimized"]["CPU s"]
        assert shows(cell(text, row, 4).split(" ")[0], ratio), row
    one, two = re.findall(r"\d+\.\d+", cell(text, "pydensecrf2", 4))
    assert shows(one, crf["times, one"])
    assert shows(two, crf["times, two"])
    ports = tables("ports")["kazuto1011"]["three scales: align_corners=False alone"]
    (share,) = re.findall(r"([\d.]+) %", cell(text, "kazuto1011", 3))
    assert shows(share, ports["labels changed, %"])


LOSSES = {
    "naive, best, cosine": "naive best, cosine",
    "best, cosine": "best, cosine",
    "best, correlation": "best, correlation",
    "mean, learned templates": "mean, learned",
    "top-k, correlation, learned templates": "top-k, correlation, learned",
}
BLOBS = {"fc8": "at fc8 (21 channels)", "fc7": "at fc7 (1024 channels)"}


def test_the_costs_of_the_feedback_losses():
    cost, found = page("losses").partition("## Cost")[2], tables("feedback")
    step = found["321 x 321, batch 10; ratio to the step"]
    for column, (blob, place) in enumerate(BLOBS.items(), 1):
        for row, name in LOSSES.items():
            shown = cell(cost, f"{row} |", column).removesuffix(" %")
            assert shows(shown, 100 * step[f"{place}: {name}"]["ratio"]), (row, blob)
        kept = found[f"kept for the backward, {blob}"]
        for row, name in (("naive", "naive"), ("torch", "torch"), ("kernels", "triton")):
            shown = cell(cost, f"{row} |", column)
            assert shows(shown, kept[name]["times the features"]), (row, blob)


def test_the_registers_of_the_kernels():
    cost = page("losses").partition("## Cost")[2]
    kernels = tables("feedback")["kernels: per thread and block"]
    architectures = ("sm_80", "sm_90", "sm_100")
    names = {name.rpartition(" ")[2] for name in kernels}
    for name in names:
        for column, architecture in enumerate(architectures, 1):
            shown = cell(cost, f"{name} |", column)
            assert int(shown) == kernels[f"{architecture} float32 {name}"]["registers"], name
    assert all(each["local"] == each["stack"] == 0 for each in kernels.values())


def test_the_memory_of_a_training():
    text = " ".join(page("train").split())
    found = tables("train")
    resident = [each["MB"] for each in found["resident memory, thin, batch 8"].values()]
    low, high = re.findall(r"first hundred \((\d+) to (\d+) MB\)", text)[0]
    assert shows(low, min(resident))
    assert shows(high, max(resident))
    (blobs,) = (table for name, table in found.items() if name.startswith("ResNet-101 MSc"))
    after, whole = re.findall(r"keeps (\d+) MB of blobs in place of (\d+) MB", text)[0]
    most, all_most = re.findall(r"needs (\d+) MB in place of (\d+) MB at most", text)[0]
    assert shows(after, blobs["-checkpoint"]["MB after forward"])
    assert shows(whole, blobs["all blobs"]["MB after forward"])
    assert shows(most, blobs["-checkpoint"]["MB at most"])
    assert shows(all_most, blobs["all blobs"]["MB at most"])


def test_the_memory_of_a_traced_resnet(tmp_path):
    """docs/unravel.md, and the size of its module in docs/export.md."""
    net = ROOT / "prototxt" / "deeplab_v2_resnet101_msc_aspp" / "deploy.prototxt"
    spec = NetSpec.read(net, variables={"EXP": "voc12", "NET_ID": "n", "NUM_LABELS": "21"})
    kept = sum(4 * math.prod(shape) for shape in spec.shapes.values())
    (shown,) = re.findall(r"([\d.]+) GB for the multi-scale", " ".join(page("unravel").split()))
    assert shows(shown, kept / 1e9)
    lines, size = re.findall(
        r"ResNet-101 is (\d+) lines .*? state dict (\d+) MB", " ".join(page("export").split())
    )[0]
    emit_module(Net(spec), tmp_path / "net.py")
    assert int(lines) == len((tmp_path / "net.py").read_text().splitlines())
    assert shows(size, (tmp_path / "net.state.pt").stat().st_size / 1e6)


def test_the_ways_to_predict():
    """docs/predict.md; "the same" is the row of options before it."""
    found, options = tables("quality")["evaluate"], ""
    rows = re.findall(
        r"^\| (none|`--.*`|the same, `.*`) \| (.*) \| (.*) \|$", page("predict"), re.M
    )
    for shown, *figures in rows:
        more = " ".join(re.findall(r"`([^`]+)`", shown))
        base = options.removesuffix(" --merge max") if shown.startswith("the same") else ""
        options = f"{base} {more}".strip()
        wanted = found[options or "none"]
        assert shows(figures[0], wanted["mean IoU"]), shown
        assert shows(figures[1], wanted["pixel accuracy"]), shown
    assert len(rows) == len(found)


def test_the_labels_that_another_crf_changes():
    """docs/crf.md and docs/pydensecrf.md."""
    found = {name: row["labels changed"] for name, row in tables("quality")["dense CRF"].items()}
    text = " ".join(page("crf").split())
    symmetric, none = re.findall(r'"symmetric"` changes ([\d.]+) %.*?"none"` ([\d.]+) %', text)[0]
    assert shows(symmetric, found["normalization symmetric"])
    assert shows(none, found["normalization none"])
    (colours,) = re.findall(r"changes ([\d.]+) % of the labels \(`evaluate --crf-colours`", text)
    assert shows(colours, found["colours of the programs"])
    (other,) = re.findall(r"some ([\d.]+) % of the labels differ", page("pydensecrf"))
    assert shows(other, found["normalization symmetric"])


def test_how_much_the_points_explain():
    text, found = page("unravel"), tables("quality")
    labels, curves = re.findall(r"\((\d+) labels; curves on 20 images, (\d+) labels\)", text)[0]
    for shift, row in found["traced points"].items():
        for column, key in enumerate(
            ("inside", "by chance", "peak inside", "distance of those outside"), 1
        ):
            assert shows(cell(text, f"{shift} |", column).split()[0], row[key]), (shift, key)
        assert int(labels) == row["labels"]
    for order, row in found["order of the pixels"].items():
        for column, key in enumerate(("deletion", "insertion"), 1):
            line = f"{order}, full_shift" if order == "traced points" else order
            assert shows(cell(text, f"{line} |", column).split()[0], row[key]), (order, key)
        assert int(curves) == row["labels"]


def test_half_precision_and_quantization():
    """docs/pytorch.md, on 1,119,840 pixels."""
    text, found = page("pytorch"), tables("quality")["half precision and quantization"]
    shown = re.findall(r"float16 changes ([\d.]+) % of the labels, bfloat16 ([\d.]+) %", text)[0]
    for figure, name in zip(shown, ("torch.float16", "torch.bfloat16"), strict=True):
        assert shows(figure, found[name]["labels changed, %"])
    for row, name in (
        ("torch.ao, engine x86", "torch.ao, x86"),
        ("torch.ao, engine onednn", "torch.ao, onednn"),
        ("onnxruntime, all operators", "onnxruntime, all"),
        ("onnxruntime, convolutions only", "onnxruntime, Conv"),
    ):
        changed, iou = (cell(text, row, column).removesuffix(" %") for column in (1, 2))
        assert shows(changed, found[name]["labels changed, %"]), row
        assert shows(iou, found[name]["mean IoU there"]), row
        sizes = re.findall(r"[\d,]+", cell(text, row, 3))
        keys = ("bytes", "bytes of float32")
        assert [int(size.replace(",", "")) for size in sizes] == [
            found[name][key] for key in keys[: len(sizes)]
        ]


def test_the_distances_of_onnx_files():
    text, found = page("export"), tables("export")["distance of the peak"]
    for name, row in found.items():
        for column, engine in enumerate(("onnxruntime", "OpenVINO", "OpenCV"), 1):
            assert float(cell(text, f"{name} |", column)) == row[engine], (name, engine)
        assert row["labels that differ"] == 0


ROUNDED = {
    "conv5_1, 4,608": ("conv5_1: 512 channels, 3 x 3", "top"),
    "fc6 of 7 x 7, 25,088": ("fc6: 512 channels, 7 x 7", "top"),
    "the same with dilation 4": ("fc6: 512 channels, 7 x 7, dilation 4", "top"),
    "fc7 of 1 x 1, 1,024": ("fc7: 1024 channels, 1 x 1", "top"),
    "conv3_2, 2,304, 16 images": ("conv3_2: 256 channels, 3 x 3, 16 images", "top"),
    "its bias's diff, 6,400": ("conv3_2: 256 channels, 3 x 3, 16 images", "bias diff"),
}


@pytest.mark.parametrize("row", ROUNDED)
def test_the_errors_of_torch_s_kernels(row):
    """docs/verify.md; the first column is the larger of two instruction sets."""
    title, of = ROUNDED[row]
    found = {
        way: figures[of] for way, figures in tables("rounding")[title].items() if of in figures
    }
    wanted = (
        max(found["oneDNN, AVX2"], found["oneDNN, SSE4.1"]), found["oneDNN, best"],
        found["oneDNN off"], found["exact_sums"],
    )  # fmt: skip
    shown = [float(cell(page("verify"), f"{row} |", column)) for column in (1, 2, 3, 4)]
    assert shown == list(wanted)


SMALLEST = {
    "conv5, 3 x 3, 512 channels, forward and backward": ("conv5_openblas", "conv5_refblas"),
    "deconvolution, forward and backward": ("deconv_openblas", "deconv_refblas"),
    "fc6, 25,088 products in a sum, forward only": ("fc6_refblas",),
}


@pytest.mark.parametrize("row", SMALLEST)
def test_the_smallest_changes_that_verify_finds(row):
    lines = page("verify").splitlines()
    (start,) = (n for n, line in enumerate(lines) if line.startswith(f"| {row}"))
    for line, rule in zip(lines[start : start + 2], ("now", "first version"), strict=True):
        shown = [part.strip() for part in line.strip("|").split("|")]
        assert shown[2] == rule
        recorded = [
            figures[rule] for title, figures in tables("parity").items()
            if title.startswith(SMALLEST[row])
        ]  # fmt: skip
        names = ("all weights, relative", "one filter, relative", "one bias, of the spread")
        for figure, name in zip(shown[3:], names, strict=True):
            wanted = {float(each[name]) for each in recorded}
            assert {float(part) for part in figure.split(",")} == wanted, (rule, name)


def test_the_speed_of_training():
    text = page("train")
    for row, name in (
        ("the thin net of examples/shapes_voc", "LargeFOV, thin, batch 8, 113 x 113"),
        ("the published widths, batch 2", "LargeFOV, published widths, batch 2, 113 x 113"),
    ):
        found = tables("train")[name]["caffe train"]
        assert shows(cell(text, row, 1), found["ratio"])
        assert shows(cell(text, row, 2).removesuffix(" %"), 100 * found["share waiting for data"])


def test_the_tutorial_s_fine_tuning_is_a_run_of_the_experiment():
    path = ROOT / "docs" / "experiment" / "results.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    for row, scores in (
        ("start: Caffe's step 1,200", found["start"]),
        ("600 steps later", found["scores"]["poly_softmax"]["1"]),
    ):
        for column, when in enumerate(("before", "after"), 1):
            assert shows(cell(page("tutorial"), row, column), 100 * scores[when])
