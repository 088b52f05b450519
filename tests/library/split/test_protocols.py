from dataclasses import FrozenInstanceError

import pytest

from deferred import deferred
from leakfree.split import protocols

with deferred:
    from leakfree.ledger.ledger import Ledger


def test_clean_declares_nothing_and_no_other_protocol_does():
    found = {p.name: p for p in vars(protocols).values() if isinstance(p, protocols.Protocol)}
    assert [name for name, protocol in found.items() if not protocol.leaks] == ["clean"]
    assert found["image-level"].leaks == {"linked groups"}
    with pytest.raises(FrozenInstanceError):
        protocols.CLEAN.leaks = frozenset({"images"})


def test_a_ledger_looks_for_every_leak_that_can_be_declared():
    assert set(Ledger({}).leaks({})) == set(protocols.LEAKS)
    for protocol in (protocols.CLEAN, protocols.IMAGE_LEVEL):
        assert protocol.leaks <= set(protocols.LEAKS)
