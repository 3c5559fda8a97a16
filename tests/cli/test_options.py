"""What the shared options take and refuse, before a file is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner

from caffe_port.cli import main
from caffe_port.cli.options import NetOptions, crop_option, mean_option, net_options, of_net
from caffe_port.loading import load
from tests.evaluation.standins import make_voc
from tests.goldens_dir import SHAPES


@click.command()
@crop_option
@mean_option
@net_options
def show(**options: Any) -> None:
    click.echo({name: value for name, value in options.items() if value})


def said(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(show, arguments)
    return result.exit_code, result.output


def test_values() -> None:
    status, text = said(
        "--crop", "32X48", "--mean", "1,2.5,3", "--input-shape", "data=1,3,9,9", "--set", "EXP=",
    )  # fmt: skip
    assert status == 0
    assert "'crop': (32, 48)" in text
    assert "'mean': (1.0, 2.5, 3.0)" in text
    assert "'input_shapes': {'data': (1, 3, 9, 9)}" in text
    assert "'variables': {'EXP': ''}" in text
    assert "'crop': (7, 7)" in said("--crop", "7")[1]
    spaced = said("--crop", "32 x 48", "--input-shape", "data=1, 3, 9, 9")[1]
    assert "'crop': (32, 48)" in spaced
    state = said("--stage", "a, b", "--stage", "c", "--level", "-2", "--phase", "TRAIN")[1]
    assert "'stages': ('a', 'b', 'c')" in state
    assert "'level': -2" in state
    assert "'phase': 'TRAIN'" in state
    assert "'input_shapes': {'data': (1, 3, 9, 9)}" in spaced


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--crop", "0"), "'0': expected N or HEIGHTxWIDTH, each 1 or more"),
        (("--crop=-5",), "'-5': expected N or HEIGHTxWIDTH"),
        (("--crop", "3x4x5"), "'3x4x5': expected N or HEIGHTxWIDTH"),
        (("--mean", "1,2"), "'1,2': expected three numbers B,G,R"),
        (("--mean", "1,nan,2"), "'1,nan,2': expected three finite numbers B,G,R"),
        (("--input-shape", "1,3,9,9"), "'1,3,9,9': expected BLOB=1,3,513,513"),
        (("--input-shape", "=1,3"), "'=1,3': expected BLOB="),
        (("--input-shape", "data=1,-3"), "'data=1,-3': expected BLOB="),
        (("--set", "EXP"), "'EXP': expected NAME=VALUE"),
        (("--stage", "a,,b"), "an empty stage; expected a name"),
        (("--level", "3000000000"), "3000000000 is not in the range"),
        (("--phase", "TUNE"), "'TUNE' is not one of 'TEST', 'TRAIN'"),
    ],
)
def test_refusals(arguments: tuple[str, ...], message: str) -> None:
    status, text = said(*arguments)
    assert status == 2
    assert message in " ".join(text.split())


def test_only_what_was_given_is_passed_on() -> None:
    nothing = dict.fromkeys(NetOptions.__annotations__)
    nothing |= {"variables": {}, "input_shapes": {}, "allow_python_layers": False, "crop": 3}
    assert of_net(nothing) == {}
    assert of_net(nothing | {"level": 0, "stages": ("a",)}) == {"level": 0, "stages": ("a",)}


STAGED = """
layer { name: "d" type: "Input" top: "x" include { stage: "deploy" min_level: 1 }
  input_param { shape { dim: 1 dim: 3 dim: 12 dim: 10 } } }
layer { name: "d" type: "DummyData" top: "x" include { phase: TRAIN }
  dummy_data_param { shape { dim: 4 dim: 3 dim: 12 dim: 10 } } }
layer { name: "scores" type: "ReLU" bottom: "x" top: "scores" }
"""
DEPLOY = ("--stage", "deploy", "--level", "1")


@pytest.mark.parametrize("name", ["convert", "evaluate", "inspect", "unravel", "verify"])
def test_every_command_that_takes_a_net_takes_them(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert {param.name for param in command.params} >= set(NetOptions.__annotations__)


def test_a_net_with_stages_in_each_command(tmp_path: Path) -> None:
    net, model = tmp_path / "net.prototxt", tmp_path / "net.pt"
    net.write_text(STAGED)
    load(net, stages=["deploy"], level=1).save(model)
    runner = CliRunner()
    refused = runner.invoke(main, ["inspect", str(net)])
    assert refused.exit_code == 2
    said_so = " ".join(refused.output.split())
    assert "bottom 0 is 'x', which no layer makes in phase TEST; layer 'd' (Input) has " in said_so
    assert 'include { min_level: 1 stage: "deploy" }: give --level 1 --stage deploy;' in said_so
    assert "layer 'd' (DummyData) has include { phase: TRAIN }: give --phase TRAIN" in said_so
    shown = runner.invoke(main, ["inspect", str(net), *DEPLOY])
    assert "x (1 x 3 x 12 x 10)" in shown.output
    assert "x (4 x 3 x 12 x 10)" in runner.invoke(
        main, ["inspect", str(net), "--phase", "TRAIN"]
    ).output  # fmt: skip
    again = tmp_path / "again.safetensors"
    converted = runner.invoke(main, ["convert", str(net), str(model), "-o", str(again), *DEPLOY])
    assert converted.exit_code == 0, converted.output
    assert load(again).spec.stages == ("deploy",)
    assert load(again, phase="TRAIN", stages=()).spec.sources == ("x",)


def test_evaluate_takes_the_net_of_a_stage(tmp_path: Path) -> None:
    make_voc(tmp_path / "voc")
    (tmp_path / "net.prototxt").write_text(STAGED)
    words = ["evaluate", str(tmp_path / "net.prototxt"), "--images", str(tmp_path / "voc")]
    words += ["--mean", "0,0,0", "-o", str(tmp_path / "out")]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert "give --level 1 --stage deploy" in refused.output
    result = CliRunner().invoke(main, [*words, *DEPLOY])
    assert result.exit_code == 0, result.output
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["network"]["stages"] == ["deploy"]
    assert settings["network"]["level"] == 1


MODEL = [f"{SHAPES}/caffe_run/recording/net.prototxt",
         f"{SHAPES}/caffe_run/model/train_iter_2400.caffemodel"]  # fmt: skip
IMAGE = f"{SHAPES}/JPEGImages/shape_val_0001.jpg"


@pytest.mark.parametrize(
    "command",
    [["predict", *MODEL, IMAGE], ["unravel", *MODEL, IMAGE], ["explore", *MODEL],
     ["evaluate", *MODEL],
     ["verify", *MODEL, f"{SHAPES}/caffe_run/recording"]],
    ids=lambda words: words[0],
)  # fmt: skip
@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda", "the device is 'cuda', but torch finds no GPU here"),
     ("cuda:x", "the device is 'cuda:x'; expected cpu, or a GPU"),
     ("gpu", "the device is 'gpu'; expected cpu, or a GPU of this machine such as cuda or cuda:1"),
     ("meta", "the device is 'meta'; expected cpu")],
)  # fmt: skip
def test_a_device_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, command: list[str], device: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device != "cuda")
    if device == "cuda":  # also on a machine that has one
        monkeypatch.setattr(torch, "empty", refuse)
    result = CliRunner().invoke(main, [*command, "--device", device])
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())


def refuse(*args: Any, **named: Any) -> torch.Tensor:
    raise AssertionError("Torch not compiled with CUDA enabled")
