"""Which layers of a pass run, what they need, and what is freed when."""

import weakref
from types import SimpleNamespace

import pytest

from caffe_port.errors import UsageError
from caffe_port.plan import Numbering, freed_after, make_plan, needed, run_steps, runnable
from tests.spec.making import INPUT, LABEL, conv, layer, spec_of

NET = (
    INPUT + LABEL + conv("c", "x") + layer("r", "ReLU", "c", "c")
    + layer("l", "SoftmaxWithLoss", "c y") + layer("t", "TanH", "c")
    + layer("w", "MatWrite", "t", "", 'mat_write_param { prefix: "out" }')
)  # fmt: skip
FED = frozenset({"x", "y"})


def plan(keep, fed=FED, text=NET, write_files=False):
    return make_plan(spec_of(text), fed, keep, write_files)


def names(made):
    return [step.layer.name for step in made.steps]


def test_every_blob_is_freed_once_and_never_before_its_last_use():
    made = plan("outputs")
    freed = [blob for step in made.steps for blob in step.free]
    assert len(freed) == len(set(freed))
    gone = set()
    for step in made.steps:
        assert gone.isdisjoint((*step.layer.bottoms, *step.layer.tops))
        gone.update(step.free)
    touched = {b for s in made.steps for b in (*s.layer.bottoms, *s.layer.tops)}
    assert gone == touched - made.kept
    assert made.kept == {"l", "t"}


def test_layers_that_only_write_files_run_when_asked():
    assert names(plan("outputs")) == ["c", "r", "c_r_0_split", "l", "t"]
    assert names(plan("outputs", write_files=True))[-1] == "w"
    assert plan("outputs", write_files=True).kept == {"l", "t"}


def test_all_keeps_all_and_frees_nothing():
    made = plan("all")
    assert made.keep_all
    assert made.kept == set(spec_of(NET).shapes)
    assert not any(step.free for step in made.steps)


def test_chosen_blobs_leave_out_what_they_do_not_need():
    assert names(plan(frozenset({"t"}), fed=frozenset({"x"}))) == ["c", "r", "c_r_0_split", "t"]
    assert names(plan(frozenset({"x"}))) == []
    assert names(plan(frozenset({"c"}))) == ["c", "r"]


def test_blobs_that_get_diffs():
    walked = {"c", "c_r_0_split_0"}  # t leads to no loss, y is a label
    assert plan("all").needs_diff == walked
    forced = plan("all", text="force_backward: true " + NET)
    assert forced.needs_diff == walked | {"x", "c_r_0_split_1"}


@pytest.mark.parametrize(
    ("keep", "fed", "words"),
    [
        ("outputs", {"x"}, "no data given for the inputs y"),
        ("everything", {"x", "y"}, "keep is 'everything'"),
        (frozenset({"q"}), {"x", "y"}, "keep names 'q', which is not a blob of the net"),
        (frozenset({"l"}), {"x"}, "'l' cannot be computed without y"),
    ],
)
def test_what_cannot_be_planned(keep, fed, words):
    with pytest.raises(UsageError) as caught:
        plan(keep, frozenset(fed))
    assert words in str(caught.value)


def node(bottoms, tops, free=()):
    return SimpleNamespace(bottoms=tuple(bottoms), tops=tuple(tops), free=tuple(free), type="Any")


def test_a_layer_without_bottoms_runs_where_none_of_its_tops_is_given():
    both, next_layer = node("", "xy"), node("x", "z")
    assert runnable([both, next_layer], set()) == [both, next_layer]
    assert runnable([both, next_layer], {"y"}) == []
    assert runnable([both, next_layer], {"x"}) == [next_layer]


def test_what_is_needed_and_what_is_freed():
    nodes = [node("x", "a"), node("x", "b"), node("a", "a"), node("ab", "c"), node("b", "d")]
    assert needed(nodes, "c") == nodes[:4]
    assert freed_after(nodes, "c") == [(), ("x",), (), ("a",), ("b", "d")]
    assert freed_after(nodes[:4], "c") == [(), ("x",), (), ("a", "b")]
    assert freed_after([], "c") == []


class Blob:
    pass


def test_nothing_holds_a_blob_that_is_freed():
    alive = []

    def compute(step, bottoms):
        held = [blob() is not None for blob in alive]
        made = [Blob() for _ in step.tops]
        alive.extend(map(weakref.ref, made))
        assert held == step.held
        return made

    steps = [node("x", "ab", "b"), node("a", "c", "a"), node("c", "d", "c"), node("d", "", "d")]
    holds = ([], [True, False], [False, False, True], [False, False, False, True])
    for step, held in zip(steps, holds, strict=True):
        step.held = held
    values = {"x": Blob()}
    run_steps(steps, values, compute)
    assert set(values) == {"x"}
    assert not any(blob() for blob in alive)


def test_a_layer_in_place_writes_a_new_value_and_a_copy_none():
    numbers = Numbering(["x"])
    first = numbers.connect(node("x", "a"))
    again = numbers.connect(node("a", "a"))
    numbers.rename(node("a", "pq"))
    last = numbers.connect(node("qx", "b"))
    assert (first.bottoms, first.tops) == ((0,), (1,))
    assert (again.bottoms, again.tops) == ((1,), (2,))
    assert (last.bottoms, last.tops) == ((2, 0), (3,))
    assert numbers.blobs == ["x", "a", "a", "b"]
    assert numbers.current == {"x": 0, "a": 2, "p": 2, "q": 2, "b": 3}
