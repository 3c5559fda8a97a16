"""Messages name options in the syntax of the running program."""

from __future__ import annotations

import pytest

from caffe_port.errors import counted, in_command, option, shapes_option, speaking

SPELLINGS = {
    ("phase", "TRAIN"): ("phase='TRAIN'", "--phase TRAIN", ""),
    ("level", 2): ("level=2", "--level 2", "-level 2"),
    ("variables", "EXP"): (
        "variables={'EXP': VALUE}", "--set EXP=VALUE", "a value in the file, as sed does it"
    ),
    ("blob", "NAME"): ("blob='NAME'", "--blob NAME", ""),
    ("fresh", True): ("fresh=True", "--fresh", ""),
    ("keeps_run_state", False): ("keeps_run_state=False", "", "-norunstate"),
    ("allow_python_layers", True): (
        "allow_python_layers=True", "--allow-python-layers", "-allow_python_layers"
    ),
    ("strict", False): ("strict=False", "convert --lenient", ""),
    ("weights", "a.caffemodel"): ("net.copy_from", "", "-weights a.caffemodel"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "spelled"), SPELLINGS.items())
def test_each_program_has_its_spelling(given: tuple[str, object], spelled: tuple[str, ...]) -> None:
    assert option(*given) == spelled[0]
    with speaking("caffe-port"):
        assert option(*given) == spelled[1]
        with speaking("caffe"):
            assert option(*given) == spelled[2]
        assert option(*given) == spelled[1]


def test_lists_and_shapes() -> None:
    assert option("stages", ["a", "b"]) == "stages=['a', 'b']"
    assert shapes_option(["x"]) == "input_shapes={'x': (N, C, H, W)}"
    assert not in_command()
    with speaking("caffe-port"):
        assert in_command()
        assert option("stages", ["a", "b"]) == "--stage a,b"
        assert shapes_option(["x", "y"]) == "--input-shape x=N,C,H,W --input-shape y=N,C,H,W"
    with speaking("caffe"):
        assert shapes_option(["x"]) == ""


def test_an_error_in_a_command_ends_its_spelling() -> None:
    with pytest.raises(ValueError, match="wrong"), speaking("caffe"):
        raise ValueError("wrong")
    assert not in_command()


def test_counted_types() -> None:
    assert counted(["Warp", "Quilt", "Warp"]) == "Warp (2), Quilt"
    assert counted([f"t{i}" for i in range(23)]).endswith(", t19 and 3 more")
