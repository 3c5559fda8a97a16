"""tools/coverage: reading clones and folders, telling texts apart, trying nets, counting."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tools.coverage import __main__ as coverage
from tools.coverage import page, trees
from tools.coverage.building import guesses, states, try_net
from tools.coverage.kinds import BROKEN, NET, OTHER, SOLVER, TEMPLATE, kind, values

CONVOLUTION = """
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 8 } data_param { source: "no_such_lmdb" batch_size: 64 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 } }  # scores of 6 x 6
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }
"""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (CONVOLUTION, NET),
        ('input: "data" input_dim: 1', NET),
        ("layers { type: WHAT_A_FORK_HAS own_param { a: 1 } }", NET),
        ('net: "n.prototxt" base_lr: 0.1 type: "SGD"', SOLVER),
        ('item { name: "cat" label: 1 }', OTHER),
        ("", OTHER),
        ("layer { num_output: ${LABELS} }", TEMPLATE),
        ("train_net: ${NET} base_lr: 1", SOLVER),
        ("layer { num_output: ${LABELS} kernel: {{ k }} }", TEMPLATE),
        ("layer { convolution_param { num_output: $N } }", TEMPLATE),
        ('layer { name: "a"  # {{ in a comment }}\n', BROKEN),
        ("<html><body></body></html>", BROKEN),
    ],
)
def test_what_a_text_is(text: str, what: str) -> None:
    assert kind(text) == what


def test_a_net_is_read_built_and_run_with_shapes_of_missing_data() -> None:
    """The labels get the size of the scores."""
    outcome = try_net(CONVOLUTION)
    assert (outcome.stage, outcome.reason, outcome.shapes) == ("run", "", True)


def test_a_net_without_data_layers_needs_no_shapes() -> None:
    text = 'input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }'
    outcome = try_net(text + 'layer { type: "ReLU" bottom: "data" top: "y" }')
    assert (outcome.stage, outcome.shapes) == ("run", False)


@pytest.mark.parametrize(
    ("layer", "stage", "reason"),
    [
        ('type: "OfSomeFork"', "parsed", "layer type OfSomeFork"),
        ('type: "Python" python_param { module: "m" layer: "L" }', "parsed",
         "a Python layer, m.L, whose code is not run"),
        ('type: "Convolution" convolution_param { num_output: 1 kernel_size: 99 }', "parsed",
         "Convolution: "),
        ('type: "ReLU" type: "ReLU"', "", ""),
    ],
)  # fmt: skip
def test_why_a_net_fails(layer: str, stage: str, reason: str) -> None:
    text = 'input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }'
    outcome = try_net(f'{text} layer {{ name: "x" bottom: "data" top: "y" {layer} }}')
    assert outcome.stage == stage
    assert outcome.reason
    assert outcome.reason.startswith(reason)


def test_a_template_is_built_with_values() -> None:
    text = CONVOLUTION.replace("num_output: 2", "num_output: ${LABELS}")
    assert "${LABELS}" in try_net(text).reason
    assert try_net(text, variables=values(text)).stage == "run"


def test_a_large_net_is_not_run() -> None:
    text = 'input: "data" input_shape { dim: 1 dim: 64 dim: 600 dim: 600 }'
    text += 'layer { name: "c" type: "Convolution" bottom: "data" top: "y" convolution_param '
    outcome = try_net(text + "{ num_output: 64 kernel_size: 3 } }")
    assert (outcome.stage, outcome.too_large) == ("built", True)


def test_states_are_those_that_have_data() -> None:
    from caffe_port.proto import parse_net

    data = 'layer { type: "Data" top: "data" include { phase: %s } }'
    text = data % "TRAIN" + data % 'TEST stage: "test-on-train"'
    found = states(parse_net(text).message)
    assert [(state.phase, list(state.stage)) for state in found] == [
        (0, []),
        (1, ["test-on-train"]),
    ]
    net = parse_net(CONVOLUTION)
    (state,) = states(net.message)
    assert state.phase == 1
    first = next(guesses(net, state))
    assert first == {"data": (2, 3, 8, 8), "label": (2, 1, 1, 1)}


def _clone(folder: Path, bare: bool) -> str:
    work = folder / "work"
    (work / "models").mkdir(parents=True)
    (work / "models" / "a.prototxt").write_text(CONVOLUTION)
    (work / "models" / "README").write_text("not read")
    (work / "solver.prototxt").write_text('net: "a" base_lr: 1')
    git = ["git", "-C", str(work), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    if bare:
        target = folder / "owner" / "name"
        subprocess.run(["git", "clone", "-q", "--bare", str(work), str(target)], check=True)
    else:
        work.rename(folder / "owner+name")
    return commit.stdout.strip()


def test_a_word_in_place_of_a_number_is_a_template(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    (tmp_path / "name" / "a.prototxt").write_text(
        CONVOLUTION.replace("num_output: 2", "num_output: cls6x")
    )
    listed = trees.Repository("owner/name", "0" * 40, "models")
    (row,) = coverage.Survey(tmp_path, [listed], None, run=False).rows()
    assert (row["kind"], row["stage"]) == (TEMPLATE, "")


@pytest.mark.parametrize("how", ["bare", "clone", "folder"])
def test_survey_of_a_repository(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = "0" * 40
    if how == "folder":
        (tmp_path / "name" / "models").mkdir(parents=True)
        (tmp_path / "name" / "models" / "a.prototxt").write_text(CONVOLUTION)
        (tmp_path / "name" / "solver.prototxt").write_text('net: "a" base_lr: 1')
    else:
        commit = _clone(tmp_path, how == "bare")
    listed = tmp_path / "list.txt"
    listed.write_text(f"# a comment\nowner/name {commit} models\n")
    output = tmp_path / "page.md"
    assert coverage.main([str(tmp_path), "--list", str(listed), "--page", str(output)]) == 0
    text = output.read_text()
    assert "| models | 1 | 1 | 1 (100.0 %) | 1 (100.0 %) | 1 (100.0 %) | 1 (100.0 %) |" in text
    assert "- 1 files: solver" in text
    outcomes = tmp_path / "rows.json"
    arguments = [str(tmp_path), "--list", str(listed), "--json", str(outcomes)]
    assert coverage.main(arguments) == 0
    outcomes.write_text(outcomes.read_text().replace('"shapes": true', '"shapes": false'))
    assert coverage.main([*arguments, "--again", str(outcomes)]) == 0
    kept = [row for row in json.loads(outcomes.read_text()) if row["kind"] == NET]
    assert [row["shapes"] for row in kept] == [False]  # not tried again
    listed.write_text(f"owner/other {commit} models\n")
    assert coverage.main([str(tmp_path), "--list", str(listed)]) == 1
    assert "Missing: owner/other: not in" in capsys.readouterr().out


def test_the_list_is_well_formed() -> None:
    listed = trees.read_list(coverage.LIST)
    assert len(listed) >= 60
    assert {repository.group for repository in listed} == set(page.GROUPS)
    names = {repository.name for repository in listed}
    assert {repository.schema for repository in listed if repository.schema} <= names
    assert all(len(repository.commit) == 40 for repository in listed)


def test_a_malformed_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    for text in ("owner/name abc\n", "a/b c d\na/b c d\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"list\.txt:[12]: "):
            trees.read_list(path)
