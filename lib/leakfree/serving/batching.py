"""Films of concurrent requests are predicted together: one pass over the weights serves them all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import torch

from leakfree.classifier import Answer, Classifier


class BusyError(Exception):
    """More films wait than may."""


class Batcher:
    """Inference threads that take what waits; nobody waits for a batch to fill.

    Under load each thread predicts batches of its own on one core, which wastes no time on joining cores. A
    film that comes alone gets all of them.

    Parameters
    ----------
    classifier : Classifier
    threads : int
        Inference threads, and cores.
    batch : int
        Films predicted at once, at most.
    batch_seconds : float
        What a batch may take: whoever comes during one waits for its end. With the speed that is measured
        when it starts it may make batches smaller.
    waiting : int
        Films that may wait.
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
        self._queue: queue.Queue[tuple[np.ndarray, Future[Answer]]] = queue.Queue(waiting)
        self._batch_seconds = batch_seconds
        self._busy, self._counting = 0, threading.Lock()
        self.ready = False

    def start(self) -> None:
        """Start the threads, and be ready when the model has answered: the first call builds kernels."""
        for number in range(self.threads):
            threading.Thread(target=self._work, name=f"inference-{number}", daemon=True).start()
        film = np.zeros((self.classifier.size, self.classifier.size), dtype=np.uint8)
        for future in [self.submit(film) for _ in range(self.threads)]:
            future.result()
        self.batch = max(1, min(self.batch, int(self._batch_seconds / self._seconds_of(film))))
        self.ready = True

    def _seconds_of(self, film: np.ndarray) -> float:
        """Measure one film on one core, in a thread of its own, since the number of cores is a thread's."""

        def measure() -> None:
            torch.set_num_threads(1)
            for _ in range(3):
                started = time.perf_counter()
                self.classifier.answer(film[None])
                taken.append(time.perf_counter() - started)

        taken: list[float] = []
        thread = threading.Thread(target=measure)
        thread.start()
        thread.join()
        return min(taken)

    def submit(self, film: np.ndarray) -> Future[Answer]:
        """Ask for an answer to a film, uint8 (size, size).

        Raises
        ------
        BusyError
            If too many films wait.
        """
        future: Future[Answer] = Future()
        try:
            self._queue.put_nowait((film, future))
        except queue.Full:
            raise BusyError(f"{self._queue.maxsize} films wait already") from None
        return future

    @property
    def waiting(self) -> int:
        """Films that wait now."""
        return self._queue.qsize()

    def _work(self) -> None:
        cores = 0
        while True:
            taken = [self._queue.get()]
            with self._counting:
                self._busy += 1
                alone = self._busy == 1 and self._queue.empty()
            if cores != (wanted := self.threads if alone else 1):
                torch.set_num_threads(cores := wanted)
            # A fair share: what another thread could do now is not added to this batch.
            share = -(-(self._queue.qsize() + 1) // self.threads)
            while len(taken) < min(self.batch, share):
                try:
                    taken.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            self._observe(len(taken))
            try:
                answers = self.classifier.answer(np.stack([film for film, _ in taken]))
                for (_, future), answer in zip(taken, answers, strict=True):
                    future.set_result(answer)
            except Exception as error:  # of the model: the requests get it, the thread lives on
                for _, future in taken:
                    if not future.done():
                        future.set_exception(error)
            finally:
                with self._counting:
                    self._busy -= 1
