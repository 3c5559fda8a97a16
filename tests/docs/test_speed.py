"""Tables of speed in the documents are what the named benchmarks measured."""

from __future__ import annotations

import re

import pytest

from tests.docs.figures import cell, page, shows, tables

PERFORMANCE = page("performance")
NETS = (
    "LargeFOV 513 x 513", "FCN-AlexNet 500 x 500", "ResNet-101 MSc 513 x 513",
    "LargeFOV 321 x 321, batch 4",
)  # fmt: skip
ENGINES = {
    "ONNX Runtime": "onnxruntime",
    "OpenVINO": "openvino",
    "layer by layer": "layer by layer",
    '`engine="torch"`': "optimized, torch",
    "**optimized**": "optimized",
}
FORWARD = {
    "CPU seconds on one thread; MB": ("1 thread", "CPU s", "to the faster, CPU"),
    "wall seconds on two threads, best": ("2 threads", "wall s, best", "to the faster, wall"),
    "CPU seconds on one thread, AVX2": ("1 thread, AVX2", "CPU s", "to the faster, CPU"),
    "wall seconds on two threads, AVX2, best": (
        "2 threads, AVX2", "wall s, best", "to the faster, wall",
    ),
}  # fmt: skip


@pytest.mark.parametrize("head", FORWARD)
def test_the_tables_of_engines(head):
    """Seconds, megabytes, and the ratio to the faster of the other programs."""
    text = PERFORMANCE[PERFORMANCE.index(f"| {head} |") :].partition("\n\n")[0]
    threads, key, ratio = FORWARD[head]
    for column, net in enumerate(NETS, 1):
        assert cell(text, head, column) == net
        found = tables("forward")[f"{net}, {threads}"]
        for row, name in ENGINES.items():
            if name not in found:
                assert f"| {row} |" not in text
                continue
            seconds, _, megabytes = cell(text, row, column).partition("; ")
            assert shows(seconds, found[name][key]), (net, row)
            assert megabytes in ("", str(found[name].get("peak MB"))), (net, row)
            assert bool(megabytes) == ("MB" in head)
        shown = cell(text, "optimized, to the fastest of the others", column)
        assert shows(shown, found["optimized"][ratio]), net


def test_the_goal_of_a_forward_pass():
    shown = re.findall(r"\d+\.\d+", cell(PERFORMANCE, "a forward pass, to the faster", 2))
    wanted = [
        extreme(tables("forward")[f"{net}, {threads}"]["optimized"][ratio] for net in NETS)
        for threads, _, ratio in list(FORWARD.values())[:2]
        for extreme in (min, max)
    ]
    assert all(map(shows, shown, wanted)), (shown, wanted)
    assert len(shown) == len(wanted)


CRF = {
    "500 x 375, 21 labels, widths 121/5 and 3, two photographs |": (
        "500 x 375, 21 labels",
        "the same, another image",
    ),
    "the same size, v2's widths 67/3": ("v2 widths 67/3 and 1",),
    "2 / 5 / 60 labels |": ("2 labels", "5 labels", "60 labels"),
    "1024 x 768, 21 labels |": ("1024 x 768, 21 labels",),
}


CRF_AMD = {
    "500 x 375, 21 labels, widths 121/5 and 3, two photographs, AMD": (
        "500 x 375, 21 labels", "the same, another image",
    ),
    "v2's widths 67/3 and 1, AMD": ("v2 widths 67/3 and 1",),
    "2 / 5 / 60 labels, AMD": ("2 labels", "5 labels", "60 labels"),
    "1024 x 768, 21 labels, AMD": ("1024 x 768, 21 labels",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("result", "row", "names"),
    [("crf", *item) for item in CRF.items()] + [("crf_amd", *item) for item in CRF_AMD.items()],
)
def test_the_table_of_the_crf(result, row, names):
    found = tables(result)["compared with pydensecrf, 10 iterations"]
    for column, key in enumerate(("times, one", "times, two", "times, exact"), 1):
        shown = re.findall(r"\d+\.\d+", cell(page("crf"), row, column))
        wanted = [found[name][key] for name in names]
        assert len(shown) == len(wanted)
        assert all(map(shows, shown, wanted)), (shown, wanted)
    assert all(each["labels that differ"] == 0 for each in found.values())


def test_the_other_tables_of_the_crf_on_amd():
    found, text = tables("crf_amd"), page("crf")
    sizes = text[text.index("| image | s |") :]
    for name, row in found["by size, one thread"].items():
        keys = ("ours s", "pydensecrf s", "ours MB", "pydensecrf MB", "ours s/Mpixel",
                "pydensecrf s/Mpixel")  # fmt: skip
        for column, key in enumerate(keys, 1):
            assert float(cell(sizes, name, column)) == row[key], (name, key)
    for name, row in found["cores that are shared"].items():
        for column, key in enumerate(("one thread s", "two s", "times"), 1):
            assert float(cell(text, name, column)) == row[key], (name, key)
    for column, table in (
        (1, "steps of one inference"),
        (3, "steps of one inference, without AVX2"),
    ):
        for name, row in found[table].items():
            assert float(cell(text, name, column)) == row["ms"], (name, table)
            share = cell(text, name, column + 1).removesuffix(" %")
            assert shows(share, 100 * row["share"]), (name, table)


def test_the_steps_of_the_crf():
    text = " ".join(page("crf").split())
    steps = tables("crf")["steps of one inference"]
    shown = re.search(
        r"takes 0\.14 s: (\d+) % of it filters the bilateral kernel, (\d+) % that of position, "
        r"(\d+) % are softmaxes, (\d+) % building",
        text,
    )
    assert shown is not None
    names = ("10 filterings, bilateral", "10 filterings, position",
             "10 softmaxes and passes over the scores", "build the bilateral lattice")  # fmt: skip
    for figure, name in zip(shown.groups(), names, strict=True):
        assert shows(figure, 100 * steps[name]["share"]), name
    memory = tables("crf")["peak memory of one inference"]
    ours, theirs = re.findall(r"Peak memory is (\d+) MB, pydensecrf2's (\d+) MB", text)[0]
    assert shows(ours, memory["ours"]["MB"])
    assert shows(theirs, memory["theirs"]["MB"])
    assert shows(cell(page("crf"), "8 photographs in a batch", 2),
                 tables("crf")["a batch on two threads"]["8 images"]["times"])  # fmt: skip


def test_the_table_of_revisions():
    found = tables("revisions")["CPU seconds"]
    text = PERFORMANCE[PERFORMANCE.index("| job | base, CPU s |") :]
    for job, row in found.items():
        for column, key in enumerate(("base, CPU s", "here, CPU s", "ratio"), 1):
            assert shows(cell(text, job, column), row[key]), (job, key)
