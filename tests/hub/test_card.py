"""The model card: what it states is what is known and what was measured."""

import json

import pytest
import torch

import caffe_port as cp
from caffe_port.errors import FormatError, ReadError
from caffe_port.parity.recording import read_recording
from caffe_port.parity.report import as_dict, write_json
from caffe_port.parity.verify import verify
from tests.hub.models import KNOWN, RECORDING, folder_of, recorded_net


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """report.json of the bundled net, and what it holds."""
    result = verify(recorded_net(), read_recording(RECORDING))
    path = tmp_path_factory.mktemp("parity") / "report.json"
    write_json(result, path)
    return path, as_dict(result)


def rows(card, heading):
    """The table below a heading of the card."""
    section = card.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {cell[0]: cell[1:] if len(cell) > 2 else cell[1] for cell in cells}


def front(card):
    """The hub's fields, whose values are JSON."""
    lines = card.split("---\n")[1].splitlines()
    return {name: json.loads(value) for name, value in (line.split(": ", 1) for line in lines)}


def test_the_card_states_what_is_known(tmp_path):
    folder, net = folder_of(tmp_path, **KNOWN)
    card = (folder / "README.md").read_text()
    assert front(card) == {
        "library_name": "caffe_port", "tags": ["caffe", "caffe_port"],
        "pipeline_tag": "image-segmentation", "license": "cc-by-4.0",
    }  # fmt: skip
    assert "\n# Halving\n" in card
    count = sum(parameter.numel() for parameter in net.parameters())
    assert f"5 layers with\n{count:,} parameters." in card
    assert "A remark." in card
    shown = rows(card, "Input and output")
    assert (shown["mean"], shown["scale"], shown["scores"]) == ("1.5, 2, 3.25", "0.5", "full")
    assert shown["input `data`"] == "1 x 3 x 17 x 21"
    assert shown["dense CRF"].startswith("preset v2_vgg16: pos_w 2.0, pos_xy_std 2.0, bi_w 4.0")
    assert shown["dense CRF"].endswith("colours: RGB")
    assert rows(card, "Classes") == {
        "0": ["background", "#000000"], "1": ["disc", "#ff0000"], "2": ["box", "#00ff00"],
        "3": ["star", "#010203"],
    }  # fmt: skip
    assert rows(card, "Origin") == {
        "data set": "shapes", "licence of the weights": "cc-by-4.0", "paper": "A paper",
        "source of the Caffe model": "A page",
    }  # fmt: skip
    assert f"caffe_port {cp.__version__} wrote this folder" in card
    assert "the weights as float32" in card


def test_the_card_states_nothing_that_is_not_known(tmp_path):
    folder, _ = folder_of(tmp_path)
    card = (folder / "README.md").read_text()
    assert "license" not in front(card)
    assert set(rows(card, "Origin").values()) == {"not stated"}
    assert "No comparison of this model with Caffe was given" in card
    assert "## Classes" not in card
    other, _ = folder_of(tmp_path, licence="Academic use only")
    assert front((other / "README.md").read_text())["license_name"] == "Academic use only"


def test_the_readme_runs(tmp_path, monkeypatch):
    folder, _ = folder_of(tmp_path, **KNOWN)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace("FOLDER or OWNER/NAME", str(folder))
    photo = "examples/shapes_voc/JPEGImages/shape_val_0001.jpg"
    found = {}
    exec(code.replace("photo.jpg", photo), found)  # the card's own text
    assert found["labels"].shape == (120, 160)


def test_the_result_of_verify(tmp_path, report):
    path, values = report
    recorded_net().save_pretrained(tmp_path / "model", parity=path)
    shown = rows((tmp_path / "model" / "README.md").read_text(), "Compared with Caffe")
    counts = values["counts"]
    port, caffe = (values["worst"][name]["relative"] for name in ("e_port", "e_caffe"))
    layers = {x for row in values["rows"] if row["verdict"] == "pass" for x in row["layers"]}
    assert shown == {
        "result": "pass", "Caffe": "deeplab", "phase": "TEST", "recording": values["recording"],
        "arrays compared": f"{counts['pass']:,}, of {len(layers):,} layers",
        "arrays that fail": "0",
        "largest error of the port, of the blob's peak": f"{port:.2g}",
        "largest error of Caffe, of the blob's peak": f"{caffe:.2g}",
    }  # fmt: skip
    assert counts["pass"] >= 20
    stored = json.loads((tmp_path / "model" / "config.json").read_text())["parity"]
    assert stored["passed"] is True
    assert stored["port_error"] == values["worst"]["e_port"]["relative"]


def test_a_failure_is_stated(tmp_path, report):
    values = json.loads(report[0].read_text())
    values["passed"], values["counts"]["fail"] = False, 2
    values["oracle"], values["versions"]["recording"]["caffe"] = "", "1.0.0"
    (tmp_path / "report.json").write_text(json.dumps(values))
    recorded_net().save_pretrained(tmp_path / "model", parity=tmp_path / "report.json")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "**2 arrays differ from Caffe by more than float32 arithmetic.**" in card
    shown = rows(card, "Compared with Caffe")
    assert (shown["result"], shown["Caffe"], shown["arrays that fail"]) == ("FAIL", "1.0.0", "2")


def test_the_result_does_not_follow_a_changed_net(tmp_path, report):
    recorded_net().save_pretrained(tmp_path / "model", parity=report[0])
    net = cp.from_pretrained(tmp_path / "model")
    net.save_pretrained(tmp_path / "again", parity=report[0])  # the same net still fits
    with torch.no_grad():
        net.get_parameter("fc8_shapes.bias").view(-1)[0] += 1e-3
    with pytest.raises(FormatError, match="a report of other weights; expected one of 'shapes-lar"):
        net.save_pretrained(tmp_path / "changed", parity=report[0])
    net.save_pretrained(tmp_path / "changed")
    assert "No comparison of this model" in (tmp_path / "changed" / "README.md").read_text()


def test_reports_that_do_not_fit(tmp_path, report):
    _, net = folder_of(tmp_path)
    path = tmp_path / "report.json"
    with pytest.raises(ReadError, match=r"report\.json: cannot be read"):
        net.save_pretrained(tmp_path / "x", parity=path)
    values = json.loads(report[0].read_text())
    older = {name: value for name, value in values.items() if name != "parameters"}
    broken = values | {"worst": {"e_port": {"relative": "x"}, "e_caffe": None}}
    for content, words in [
        (values, "a report of the net 'shapes-largefov'; expected one of 'halving' with these"),
        (older, "'parameters' is missing.*; run verify again"),
        (broken, "could not convert string to float.*; run verify again"),
        (values | {"counts": {"pass": 1}}, "'fail' is missing"),
        (values | {"rows": 3}, "not a report of this version of verify"),
        (values | {"format": "x"}, "not a report of verify: expected"),
        ([], "not a report of verify: expected"),
    ]:
        path.write_text(json.dumps(content))
        with pytest.raises(FormatError, match=words):
            net.save_pretrained(tmp_path / "x", parity=path)
    assert not (tmp_path / "x").exists()
