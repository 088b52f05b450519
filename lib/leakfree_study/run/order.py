"""Run the notebooks of a study: each when those that it needs have ended, several side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter


def followers(needs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return who waits for each, in the order of `needs`."""
    return {name: [other for other, needed in needs.items() if name in needed] for name in needs}


def urgency(needs: Mapping[str, Sequence[str]], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return how long the longest chain takes that begins with each: who starts it late ends late.

    Examples
    --------
    >>> urgency({"a": [], "b": ["a"], "c": []}, {"a": 1.0, "b": 5.0, "c": 4.0})
    {'b': 5.0, 'a': 6.0, 'c': 4.0}
    """
    chain: dict[str, float] = {}
    after = followers(needs)
    for name in reversed(list(TopologicalSorter(needs).static_order())):
        chain[name] = seconds.get(name, 0.0) + max((chain[other] for other in after[name]), default=0.0)
    return chain


def run_in_order(
    needs: Mapping[str, Sequence[str]],
    work: Callable[[str], None],
    *,
    lanes: int = 1,
    seconds: Mapping[str, float],
    give_up: Callable[[], None],
) -> None:
    """Do the work of each name after that of those that it needs.

    Parameters
    ----------
    needs : mapping of str to sequence of str
        Names in their order, each with those of them that come before it.
    work : callable
        Called with a name, in a thread that has that name where there are several lanes.
    lanes : int
        How many run side by side. One takes them in the order of `needs`; several begin with the longest
        chain.
    seconds : mapping of str to float
        What each is expected to take; nothing where it is not told.
    give_up : callable
        Called once when one fails or the user interrupts, while others may run: it makes them end soon.

    Raises
    ------
    Exception
        Of the work that failed first; nothing is begun after it.
    """
    if lanes <= 1:  # none where there is nothing to do
        for name in needs:
            work(name)
        return
    chain = urgency(needs, seconds)
    order = TopologicalSorter(needs)
    order.prepare()
    ready: list[str] = []
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(lanes) as pool:
        try:
            while order.is_active():
                ready = sorted([*ready, *order.get_ready()], key=lambda name: -chain[name])
                while ready and len(running) < lanes:
                    name = ready.pop(0)
                    running[pool.submit(_named, work, name)] = name
                for one in wait(running, return_when=FIRST_COMPLETED).done:
                    order.done(running.pop(one))
                    one.result()
        except BaseException:
            give_up()
            raise


def _named(work: Callable[[str], None], name: str) -> None:
    threading.current_thread().name = name
    work(name)
