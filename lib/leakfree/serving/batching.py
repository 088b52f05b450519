"""Films of concurrent requests are predicted together: one pass over the weights serves them all."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import torch

from leakfree.classifier import Answer, Classifier


class BusyError(Exception):
    """More films wait than may."""


class Batcher:
    """Inference threads that take what waits; nobody waits for a batch to fill.

    Parameters
    ----------
    classifier : Classifier
    threads : int
        Inference threads, each on one core: two batches side by side are faster than one on two cores.
    batch : int
        Films predicted at once, at most.
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
        waiting: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.classifier, self.threads, self.batch, self._observe = classifier, threads, batch, observe
        self._queue: queue.Queue[tuple[np.ndarray, Future[Answer]]] = queue.Queue(waiting)
        self._threads: list[threading.Thread] = []
        self.ready = False

    def start(self) -> None:
        """Start the threads, and be ready when each has answered: the first call builds kernels."""
        self._threads = [
            threading.Thread(target=self._work, name=f"inference-{i}", daemon=True)
            for i in range(self.threads)
        ]
        for thread in self._threads:
            thread.start()
        film = np.zeros((self.classifier.size, self.classifier.size), dtype=np.uint8)
        for future in [self.submit(film) for _ in range(self.threads)]:
            future.result()
        self.ready = True

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
        torch.set_num_threads(1)
        while True:
            taken = [self._queue.get()]
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
