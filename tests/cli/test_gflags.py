"""Command lines in gflags' spellings."""

from __future__ import annotations

import pytest

from caffe_port.cli.gflags import Flag, Flags, parse, usage
from caffe_port.errors import UsageError

KNOWN = {
    "solver": Flag("", "the solver"),
    "iterations": Flag(50, "how many"),
    "sigint_effect": Flag("stop", "effect"),
    "shuffle": Flag(False, "whether"),
    "runstate": Flag(True, "whether"),
}


def read(*words: str) -> tuple[Flags, list[str]]:
    return parse(words, KNOWN)


@pytest.mark.parametrize(
    "words", [("-solver", "s"), ("--solver", "s"), ("-solver=s",), ("--solver=s",)]
)
def test_spellings_of_a_string(words: tuple[str, ...]) -> None:
    flags, others = read("train", *words)
    assert flags.solver == "s"
    assert others == ["train"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("-shuffle",), True), (("--shuffle=true",), True), (("-shuffle=0",), False),
     (("-shuffle", "-noshuffle"), False), ((), False)],
)  # fmt: skip
def test_spellings_of_a_truth(words: tuple[str, ...], expected: bool) -> None:
    assert read(*words)[0].shuffle is expected


def test_what_is_not_given_has_its_default() -> None:
    flags, _ = read("-norunstate")
    assert (flags.iterations, flags.runstate, flags.sigint_effect) == (50, False, "stop")


def test_a_value_may_be_empty_or_hold_an_equals_sign() -> None:
    assert read("--solver=")[0].solver == ""
    assert read("--solver=a=b")[0].solver == "a=b"


def test_a_bool_flag_does_not_take_the_next_word() -> None:
    flags, others = read("-shuffle", "train")
    assert flags.shuffle
    assert others == ["train"]


def test_others_and_flags_in_any_order() -> None:
    flags, others = read("a", "-iterations", "3", "b", "--", "-solver", "x")
    assert flags.iterations == 3
    assert others == ["a", "b", "-solver", "x"]


def test_a_single_dash_is_not_a_flag() -> None:
    assert read("-")[1] == ["-"]


def test_hyphens_equal_underscores() -> None:
    assert read("--sigint-effect=none")[0].sigint_effect == "none"


@pytest.mark.parametrize(
    ("words", "message"),
    [(("-nosolver",), "unknown command line flag 'nosolver'"), (("--x=1",), "'x'"),
     (("-solver",), "missing its argument"), (("-iterations", "many"), "int32 flag 'iterations'"),
     (("-shuffle=maybe",), "bool flag 'shuffle'")],
)  # fmt: skip
def test_refused_arguments(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(*words)


def test_an_unknown_attribute_is_an_error() -> None:
    with pytest.raises(AttributeError, match="colour"):
        _ = read()[0].colour


def test_usage_names_every_flag_with_type_and_default() -> None:
    text = usage(KNOWN)
    assert '-solver (the solver) type: string default: ""' in text
    assert "-iterations (how many) type: int32 default: 50" in text
    assert "-runstate (whether) type: bool default: true" in text


def test_a_joined_flag_may_be_given_again() -> None:
    known = {"import": Flag("", "", joined=True), "stage": Flag("", "")}
    flags, _ = parse(["-import", "a.py", "--import=b,c", "-stage", "d", "-stage", "e"], known)
    assert getattr(flags, "import") == "a.py,b,c"
    assert flags.stage == "e"
