"""A model folder of a stranger: named errors, bounded reading, nothing is run."""

import json
import os
import pickle
import zipfile

import pytest

import caffe_port as cp
from caffe_port.errors import CaffePortError, FormatError, UsageError
from caffe_port.model_folder import MAX_CONFIG
from tests.hub.models import KNOWN, folder_of


def changed(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


CONFIGS = [
    ("[" * 100_000, "not JSON"),
    ("[]", 'not of a caffe_port model: expected "format": "caffe_port model"'),
    ("\xff\xfe", "not JSON|UTF-16|not of"),
    (" " * (MAX_CONFIG + 1), f"{MAX_CONFIG + 1} bytes, expected at most {MAX_CONFIG}"),
    ('{"format": "caffe_port model", "version": 2}', "version 2; this caffe_port reads version 1"),
    ('{"format": "caffe_port model", "version": "1"}', "version '1'; this caffe_port reads"),
]


@pytest.mark.parametrize(("text", "words"), CONFIGS)
def test_config_json_that_is_none(tmp_path, text, words):
    folder, _ = folder_of(tmp_path)
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=words) as error:
        cp.from_pretrained(folder)
    assert str(error.value).startswith(f"{folder / 'config.json'}: ")


VALUES = [
    ({"info": []}, r"info is \[\]; expected an object"),
    ({"info": {"classes": "abcd"}}, "info: classes is 'abcd'; expected a list"),
    ({"info": {"classes": [{}]}}, "info: classes has {}; expected a text"),
    ({"info": {"mean": [1, 2, "3"]}}, "info: mean is .*; expected blue, green, red, finite"),
    ({"info": {"mean": [1, 2, True]}}, "info: mean is .*; expected blue, green, red, finite"),
    ({"info": {"scale": 1e999}}, "info: scale is .*; expected a number, finite"),
    ({"info": {"palette": [[0, 0, -1]]}}, "expected red, green, blue, each 0 to 255"),
    ({"info": {"run": "rm"}}, "info: 'run' is not known; known are title"),
    ({"info": {"crf": {"bi_w": []}}}, "info: "),
    ({"info": {"crf": {"iterations": -1}}}, "info: "),
    ({"net": 3}, "net is 3; expected an object"),
    ({"net": {"phase": ["TEST"]}}, "net: phase is .*; expected a text"),
    ({"net": {"level": "x"}}, "its metadata is not what was written for it"),
    ({"net": {"level": 2**31}}, "its metadata is not what was written for it"),
    ({"net": {"stages": 1}}, "its metadata is not what was written for it"),
    ({"net": {"input_shapes": {"data": ["x"]}}}, "its metadata is not what was written for it"),
    ({"net": {"input_shapes": []}}, "its metadata is not what was written for it"),
]


@pytest.mark.parametrize(("values", "words"), VALUES)
def test_wrong_values_in_config_json(tmp_path, values, words):
    folder, _ = folder_of(tmp_path)
    changed(folder, **values)
    with pytest.raises(FormatError, match=words) as error:
        cp.from_pretrained(folder)
    assert str(error.value).startswith(f"{folder / 'config.json'}: ")


@pytest.mark.parametrize(
    "net", [{"phase": "DEPLOY"}, {"dialect": "x"}, {"input_shapes": {"data": [1, 3, -1, 5]}},
            {"input_shapes": {"data": [1, 3, 2**40, 2**40]}}, {"input_shapes": {"no": [1]}}],
)  # fmt: skip
def test_settings_with_which_no_net_can_be_built(tmp_path, net):
    folder, _ = folder_of(tmp_path)
    changed(folder, net=net)
    with pytest.raises(CaffePortError):
        cp.from_pretrained(folder)


def test_weights_are_safetensors_and_the_net_is_text(tmp_path):
    folder, net = folder_of(tmp_path)
    net.save(tmp_path / "net.pt")
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    for content in ((tmp_path / "net.pt").read_bytes(), pickle.dumps([1]), good[:7], b""):
        weights.write_bytes(content)
        with pytest.raises(FormatError, match=r"model\.safetensors: not a safetensors file"):
            cp.from_pretrained(folder)
    weights.write_bytes(good)
    with zipfile.ZipFile(folder / "net.prototxt", "w") as archive:
        archive.writestr("data.pkl", b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(FormatError, match=r"net\.prototxt: not a text; expected a prototxt"):
        cp.from_pretrained(folder)
    (folder / "net.prototxt").write_text('layer { name: "a"')
    with pytest.raises(FormatError, match=r"net\.prototxt: line 1"):
        cp.from_pretrained(folder)


def test_weights_of_another_net_do_not_fit(tmp_path):
    folder, _ = folder_of(tmp_path)
    text = (folder / "net.prototxt").read_text()
    (folder / "net.prototxt").write_text(text.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(CaffePortError, match="score"):
        cp.from_pretrained(folder)


def test_files_that_are_none(tmp_path):
    folder, _ = folder_of(tmp_path)
    for name in ("net.prototxt", "model.safetensors", "config.json"):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)  # opening it to read would wait for a writer
        with pytest.raises(FormatError, match="not a regular file"):
            cp.from_pretrained(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(kept)
    assert cp.from_pretrained(folder)


def test_code_that_a_python_layer_names_is_not_run(tmp_path, monkeypatch):
    folder, _ = folder_of(tmp_path)
    (tmp_path / "hostile_code.py").write_text("open('pwned', 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with (folder / "net.prototxt").open("a") as stream:
        stream.write("""layer { name: "p" type: "Python" bottom: "full" top: "p"
          python_param { module: "hostile_code" layer: "L" } }""")
    with pytest.raises(CaffePortError, match="allow_python_layers"):
        cp.from_pretrained(folder)
    assert not (tmp_path / "pwned").exists()


def test_too_long_a_description_is_refused_when_it_is_written(tmp_path):
    with pytest.raises(FormatError, match="at most 1048576 are allowed: shorten names"):
        folder_of(tmp_path, text="x" * MAX_CONFIG)
    assert not (tmp_path / "model").exists()


def test_names_cannot_break_out_of_the_card(tmp_path):
    evil = "a|b\n\n# <script>alert(1)</script>\x1b[31m\u202e"
    words = dict.fromkeys(("title", "dataset", "licence", "paper", "source", "text"), evil)
    folder, _ = folder_of(tmp_path, **KNOWN | words | {"classes": [evil, "b", "c", "d"]})
    card = (folder / "README.md").read_text()
    front, text = card.removeprefix("---\n").split("\n---\n", 1)
    assert "<script>" not in text
    assert not any(code in card for code in "\x1b\u202e")
    assert "\n# <" not in card
    assert all(line.count("|") - line.count("\\|") in (3, 4) for line in text.splitlines()
               if line.startswith("|"))  # fmt: skip
    assert 'license: "other"' in front.splitlines()
    assert cp.from_pretrained(folder).info.title == evil


def test_a_missing_folder_asks_no_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "no", "./owner/name", "name", "a/b/c", "../owner/name", "-a/b", ""):
        with pytest.raises(UsageError, match="no such folder, and not a repository of the form"):
            cp.from_pretrained(name)
    (tmp_path / "net.prototxt").write_text("")
    with pytest.raises(UsageError, match=r"is a file; expected a folder. caffe_port.load reads"):
        cp.from_pretrained(tmp_path / "net.prototxt")
