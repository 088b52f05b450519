"""Images that wait together are predicted together, each gets its own answer, a failure harms no other."""

import threading
import time

import numpy as np
import pytest

from deferred import deferred
from leakfree.base.precision import SAME_PROBABILITY

with deferred:
    import torch

    from leakfree.predict.classifier import Classifier
    from leakfree.serving.batching import Batcher, BusyError


class Slow:
    """A classifier whose answer is the image's first pixel; it waits until it may go on."""

    size = 4

    def __init__(self):
        self.may_go, self.sizes = threading.Event(), []
        self.may_go.set()

    def answer(self, films):
        self.may_go.wait(10)
        self.sizes.append(len(films))
        if (films == 13).any():
            raise RuntimeError("bad image")
        return [int(image[0, 0]) for image in films]


def image(value):
    return np.full((4, 4), value, np.uint8)


def started(threads=1, batch=8, waiting=64, **options):
    slow = Slow()
    batcher = Batcher(slow, threads, batch, 60.0, waiting, **options)
    assert not batcher.ready
    batcher.start()
    assert batcher.ready
    slow.sizes.clear()
    return slow, batcher


def test_what_waits_is_predicted_together_and_answers_find_their_way():
    observed = []
    slow, batcher = started(observe=observed.append)
    observed.clear()
    slow.may_go.clear()
    first = batcher.submit(image(1))
    while batcher.waiting:
        time.sleep(0.001)  # the thread holds the first image
    rest = [batcher.submit(image(value)) for value in range(20, 32)]
    assert batcher.waiting == 12
    slow.may_go.set()
    assert first.result(5) == 1 and [future.result(5) for future in rest] == list(range(20, 32))
    assert slow.sizes == observed == [1, 8, 4]


def test_threads_share_what_waits():
    slow, batcher = started(threads=2)
    slow.may_go.clear()
    held = [batcher.submit(image(1)) for _ in range(2)]
    deadline = time.monotonic() + 5
    while batcher.waiting and time.monotonic() < deadline:
        time.sleep(0.001)
    rest = [batcher.submit(image(2)) for _ in range(8)]
    slow.may_go.set()
    for future in held + rest:
        future.result(5)
    assert max(slow.sizes) <= 5 and sum(slow.sizes) == 10


@pytest.mark.parametrize(("allowed", "largest"), [(0.001, 1), (0.11, 2), (60.0, 8)])
def test_batches_are_no_larger_than_the_time_they_may_take(allowed, largest):
    slow = Slow()
    plain = slow.answer
    slow.answer = lambda films: (time.sleep(0.05), plain(films))[1]
    batcher = Batcher(slow, 1, 8, allowed, 64)
    batcher.start()
    slow.sizes.clear()
    for future in [batcher.submit(image(value)) for value in range(20, 33)]:
        future.result(10)
    assert batcher.batch == largest and max(slow.sizes) == largest


def test_an_image_that_comes_alone_gets_all_cores_and_several_share_them(monkeypatch):
    given = {}
    monkeypatch.setattr(torch, "set_num_threads", lambda n: given.__setitem__(threading.get_ident(), n))
    slow, batcher = started(threads=2)
    used, plain = [], slow.answer
    slow.answer = lambda films: (used.append(given[threading.get_ident()]), plain(films))[1]
    batcher.submit(image(1)).result(5)
    assert used == [2]
    slow.may_go.clear()
    waiting = [batcher.submit(image(2)) for _ in range(2)]
    while batcher.waiting:
        time.sleep(0.001)
    waiting += [batcher.submit(image(2)) for _ in range(6)]
    slow.may_go.set()
    for future in waiting:
        future.result(5)
    assert used[-1] == 1 and used.count(2) <= 2


def test_nobody_waits_for_a_batch_to_fill():
    _, batcher = started()
    assert batcher.submit(image(7)).result(2) == 7


def test_a_failure_is_told_and_the_thread_lives_on():
    _, batcher = started()
    with pytest.raises(RuntimeError, match="bad image"):
        batcher.submit(image(13)).result(5)
    assert batcher.submit(image(9)).result(5) == 9


def test_more_than_may_wait_are_sent_away():
    slow, batcher = started(waiting=3)
    slow.may_go.clear()
    held = batcher.submit(image(1))
    while batcher.waiting:
        time.sleep(0.001)
    waiting = [batcher.submit(image(2)) for _ in range(3)]
    with pytest.raises(BusyError, match="3 images wait"):
        batcher.submit(image(3))
    slow.may_go.set()
    assert [future.result(5) for future in [held, *waiting]] == [1, 2, 2, 2]


def test_threads_of_callers_get_the_answers_of_one_at_a_time(models, films):
    classifier = Classifier.load(models)
    pixels = np.stack([classifier.prepare(data) for data in films])
    expected = [answer.confidence for answer in classifier.answer(pixels)]
    batcher = Batcher(classifier, 2, 8, 60.0, 256)
    batcher.start()
    found = {}

    def call(name):
        order = np.random.default_rng(name).permutation(len(films))
        found[name] = [(i, batcher.submit(pixels[i]).result(30).confidence) for i in order]

    callers = [threading.Thread(target=call, args=(name,)) for name in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for pairs in found.values():
        for i, confidence in pairs:
            assert confidence == pytest.approx(expected[i], abs=SAME_PROBABILITY)
