"""Images of concurrent requests are predicted together: one pass over the weights serves them all."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import torch

from leakfree.predict.classifier import Answer, Classifier


class BusyError(Exception):
    """More images wait than may."""


class Batcher:
    """Inference threads that take what waits; nobody waits for a batch to fill.

    Under load each thread predicts batches of its own on one core, which wastes no time on joining cores. A
    image that comes alone is predicted by the first thread on all cores. Only that one ever does so: each
    thread that did would keep helpers of its own, and more helpers than cores sleep where they should wait
    awake.

    Parameters
    ----------
    classifier : Classifier
    threads : int
        Inference threads, and cores.
    batch : int
        Images predicted at once, at most.
    batch_seconds : float
        What a batch may take: whoever comes during one waits for its end. With the speed that is measured
        when it starts it may make batches smaller.
    waiting : int
        Images that may wait.
    observe : callable, optional
        Told the size of each batch.
    """

    def __init__(
        self,
        classifier: Classifier,
        threads: int,
        batch: int,
        batch_seconds: float,
        waiting: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.classifier, self.threads, self.batch, self._observe = classifier, threads, batch, observe
        self._batch_seconds, self._most = batch_seconds, waiting
        self._queue: deque[tuple[np.ndarray, Future[Answer]]] = deque()
        self._changed = threading.Condition()
        self._busy: set[int] = set()
        self.ready = False

    def start(self) -> None:
        """Start the threads, and be ready when the model has answered: the first call builds kernels."""
        for number in range(self.threads):
            work = threading.Thread(
                target=self._work, args=(number,), name=f"inference-{number}", daemon=True
            )
            work.start()
        image = np.zeros((self.classifier.size, self.classifier.size), dtype=np.uint8)
        self.submit(image).result()
        self.batch = max(1, min(self.batch, int(self._batch_seconds / self._seconds_of(image))))
        self.ready = True

    def _seconds_of(self, image: np.ndarray) -> float:
        """Measure one image on one core, in a thread of its own, since the number of cores is a thread's."""

        def measure() -> None:
            torch.set_num_threads(1)
            for _ in range(3):
                started = time.perf_counter()
                self.classifier.answer(image[None])
                taken.append(time.perf_counter() - started)

        taken: list[float] = []
        thread = threading.Thread(target=measure)
        thread.start()
        thread.join()
        return min(taken)

    def submit(self, image: np.ndarray) -> Future[Answer]:
        """Ask for an answer to an image, uint8 (size, size).

        Raises
        ------
        BusyError
            If too many images wait.
        """
        future: Future[Answer] = Future()
        with self._changed:
            if len(self._queue) >= self._most:
                raise BusyError(f"{self._most} images wait already")
            self._queue.append((image, future))
            self._changed.notify_all()
        return future

    @property
    def waiting(self) -> int:
        """Images that wait now."""
        return len(self._queue)

    def _take(self, number: int) -> tuple[list[tuple[np.ndarray, Future[Answer]]], bool]:
        """Wait for images and take a fair share: what another thread could do now is not added to a batch."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue and (number == 0 or 0 in self._busy))
            alone = not self._busy and len(self._queue) == 1
            share = min(self.batch, -(-len(self._queue) // self.threads))
            taken = [self._queue.popleft() for _ in range(share)]
            self._busy.add(number)
            self._changed.notify_all()
        return taken, alone

    def _work(self, number: int) -> None:
        cores = 0
        while True:
            taken, alone = self._take(number)
            if cores != (wanted := self.threads if alone else 1):
                torch.set_num_threads(cores := wanted)
            self._observe(len(taken))
            try:
                answers = self.classifier.answer(np.stack([image for image, _ in taken]))
                for (_, future), answer in zip(taken, answers, strict=True):
                    future.set_result(answer)
            except Exception as error:  # of the model: the requests get it, the thread lives on
                for _, future in taken:
                    if not future.done():
                        future.set_exception(error)
            finally:
                with self._changed:
                    self._busy.discard(number)
