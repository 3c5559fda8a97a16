"""Which draw seeds what, in each Caffe."""

from __future__ import annotations

import pytest

from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import RandomStreams


def seeds(count):
    random = CaffeRandom(7)
    return [random.draw() for _ in range(count)]


def first(random):
    return random.draw()


@pytest.mark.parametrize("dialect", ["bvlc", "deeplab2"])
def test_transformer_order_skip_transformer_thread(dialect):
    thread, draws = CaffeRandom(7), seeds(6)
    streams = RandomStreams(thread, dialect, transforms=True, orders=True, skips=True)
    assert first(streams.order) == first(CaffeRandom(draws[1]))
    assert streams.skipped == draws[2]
    assert first(streams.transformer) == first(CaffeRandom(draws[3]))
    assert thread.draw() == draws[5]  # the fifth was the thread's
    streams.after_batch()
    assert thread.draw() == first_after(6)


def first_after(count):
    return seeds(count + 1)[-1]


def test_deeplab_v1_renews_the_transformer_with_every_batch():
    thread, draws = CaffeRandom(7), seeds(5)
    streams = RandomStreams(thread, "deeplab1", transforms=True, orders=True)
    assert first(streams.order) == first(CaffeRandom(draws[0]))
    assert first(streams.transformer) == first(CaffeRandom(draws[2]))
    streams.after_batch()
    assert first(streams.transformer) == first(CaffeRandom(draws[3]))
    assert thread.draw() == draws[4]


@pytest.mark.parametrize(("dialect", "taken"), [("bvlc", 3), ("deeplab2", 4)])
def test_a_database_is_read_in_one_more_thread_by_v2(dialect, taken):
    thread = CaffeRandom(7)
    streams = RandomStreams(thread, dialect, transforms=True, reads_apart=True)
    assert first(streams.transformer) == first(CaffeRandom(seeds(4)[taken - 2]))
    assert thread.draw() == first_after(taken)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"transforms": False}, 1),
        ({"transforms": False, "prefetches": False}, 0),
        ({"transforms": True, "prefetches": False}, 1),
        ({"transforms": False, "orders": True}, 2),
    ],
)
def test_only_what_is_needed_is_drawn(options, taken):
    thread = CaffeRandom(7)
    RandomStreams(thread, "bvlc", **options)
    assert thread.draw() == first_after(taken)


def test_without_a_generator_every_layer_seeds_itself():
    one, other = (RandomStreams(None, "bvlc", transforms=True, orders=True) for _ in range(2))
    assert first(one.transformer) != first(other.transformer)
    assert first(one.order) != first(one.transformer)
    one.after_batch()
