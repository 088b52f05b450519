"""Checkpoints are written whole, read without running code, and only under their own key."""

import pickle

import pytest

from deferred import deferred

with deferred:
    import torch

    from leakfree.models.checkpoint import Checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "deep" / "cell.pt", "key")


def test_what_was_saved_comes_back(checkpoint):
    assert checkpoint.load() is None
    checkpoint.save({"weights": {"a": torch.arange(3.0)}, "epoch": 2, "text": "x", "none": None})
    state = checkpoint.load()
    assert torch.equal(state["weights"]["a"], torch.arange(3.0))
    assert (state["epoch"], state["text"], state["none"]) == (2, "x", None)
    assert Checkpoint(checkpoint.path, "another").load() is None
    checkpoint.remove()
    assert checkpoint.load() is None
    checkpoint.remove()


class Harm:
    def __reduce__(self):
        return (print, ("code was run",))


def test_damaged_and_foreign_files_are_left_alone(checkpoint, capsys):
    checkpoint.save({"epoch": 1})
    whole = checkpoint.path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"not a checkpoint", pickle.dumps(Harm())):
        checkpoint.path.write_bytes(content)
        assert checkpoint.load() is None
    said = capsys.readouterr()
    assert "code was run" not in said.out
    assert said.err.count("cell.pt: cannot be read") == 4
    torch.save([1, 2], checkpoint.path)
    assert checkpoint.load() is None


def test_a_write_that_fails_keeps_the_last_one(checkpoint, monkeypatch):
    checkpoint.save({"epoch": 1})

    def broken(state, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save({"epoch": 2})
    assert checkpoint.load()["epoch"] == 1
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["cell.pt"]
