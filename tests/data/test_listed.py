"""A list continues where another one was."""

from dataclasses import dataclass

import pytest

from caffe_port.data.list_file import ListDataset
from caffe_port.data.rng import CaffeRandom
from caffe_port.errors import UsageError


@dataclass(frozen=True)
class Line:
    number: int


def listed(seed: int | None, count: int = 4, skip: int = 0) -> ListDataset[Line]:
    lines = [Line(2 * i + 1) for i in range(count)]  # blank lines in between
    return ListDataset("list", lines, None if seed is None else CaffeRandom(seed), skip)


def taken(list_: ListDataset[Line], count: int) -> list[str]:
    found = []
    for _ in range(count):
        found.append(str(list_.current.number))
        list_.advance()
    return found


def test_without_an_order_it_goes_round() -> None:
    assert taken(listed(None, skip=2), 6) == ["5", "7", "1", "3", "5", "7"]


def test_with_an_order_every_round_has_its_own() -> None:
    found = taken(listed(3), 8)
    assert sorted(found[:4]) == sorted(found[4:]) == ["1", "3", "5", "7"]
    assert found[:4] != found[4:]


def test_it_continues_where_another_one_was() -> None:
    one, other = listed(3), listed(4)
    taken(one, 2)
    other.set_state(*one.state())
    assert taken(other, 2) == taken(one, 2)


@pytest.mark.parametrize(("numbers", "place"), [([1, 3, 5], 0), ([1, 3, 5, 9], 0),
                                                ([1, 3, 5, 7], 4), ([1, 3, 5, 7], -1)])  # fmt: skip
def test_a_list_that_changed_is_refused(numbers: list[int], place: int) -> None:
    with pytest.raises(UsageError, match="list: the list has changed since the snapshot"):
        listed(None).set_state(numbers, place)


def test_skipping_all_lines_is_refused() -> None:
    with pytest.raises(UsageError, match="list: rand_skip skips all of its 4 lines"):
        listed(None, skip=4)
