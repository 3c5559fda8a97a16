"""Caffe's generator; its whole streams are compared with recordings in test_image_seg."""

from __future__ import annotations

from collections import Counter

from caffe_port.data.rng import CaffeRandom, current, seeded


def test_the_first_and_the_ten_thousandth_draw_are_the_standards():
    random = CaffeRandom(5489)  # the C++ standard states both for mt19937's default seed
    draws = [random.draw() for _ in range(10_000)]
    assert draws[0] == 3499211612
    assert draws[-1] == 4123659995


def test_rand_is_the_remainder_of_one_draw():
    one, other = CaffeRandom(7), CaffeRandom(7)
    assert [one.rand(10) for _ in range(5)] == [other.draw() % 10 for _ in range(5)]


def test_shuffle_by_hand():
    random, items = CaffeRandom(3), list("abcd")
    draws = CaffeRandom(3)
    expected = list("abcd")
    for last, bucket in ((3, 2**30), (2, 1431655765), (1, 2**31)):
        other = draws.draw() // bucket
        expected[last], expected[other] = expected[other], expected[last]
    random.shuffle(items)
    assert items == expected


class Scripted(CaffeRandom):
    """A generator whose draws are given."""

    def __init__(self, draws):
        super().__init__(0)
        self.draws = list(draws)

    def draw(self):
        return self.draws.pop(0)


def test_buckets_of_a_power_of_two_are_even():
    for draw, expected in ((2**31 - 1, [1, 0]), (2**31, [0, 1])):
        items = [0, 1]
        Scripted([draw]).shuffle(items)
        assert items == expected


def test_a_draw_beyond_the_last_bucket_is_repeated():
    items = [0, 1, 2]
    random = Scripted([2**32 - 1, 0, 2**31])
    random.shuffle(items)
    assert items == [2, 1, 0]
    assert random.draws == []


def test_every_order_comes_about_equally_often():
    random, seen = CaffeRandom(1), Counter()
    for _ in range(1200):
        items = [0, 1, 2]
        random.shuffle(items)
        seen[tuple(items)] += 1
    assert len(seen) == 6
    assert min(seen.values()) > 140


def test_without_a_seed_streams_differ():
    assert [CaffeRandom().draw() for _ in range(2)] != [CaffeRandom().draw() for _ in range(2)]


def test_draws_are_single_draws_in_a_row():
    one, other = CaffeRandom(11), CaffeRandom(11)
    assert one.draws(5).tolist() == [other.draw() for _ in range(5)]
    assert one.draws(0).tolist() == []
    assert one.draw() == other.draw()


def test_reseeding_is_seen_by_all_who_hold_the_generator():
    random = CaffeRandom(1)
    held = random
    random.draw()
    random.reseed(2)
    assert held.draw() == CaffeRandom(2).draw()


def test_nets_are_built_under_the_innermost_generator():
    outer, inner = CaffeRandom(1), CaffeRandom(2)
    assert current() is None
    with seeded(outer):
        with seeded(inner) as found:
            assert found is inner
            assert current() is inner
        assert current() is outer
    assert current() is None
