"""Logs are JSON lines that hold nothing of an image; request ids are harmless."""

import io
import json
import logging
import logging.config
import mmap
import os

import pytest

from leakfree.serving import monitoring


@pytest.mark.parametrize("given", ["abc-1.2_Z", "f" * 64])
def test_a_harmless_request_id_is_taken_over(given):
    assert monitoring.request_id(given) == given


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 65, 'a"b', "a\nb", "ä", "../x"])
def test_any_other_is_replaced(given):
    made = monitoring.request_id(given)
    assert made != given and len(made) == 32 and made != monitoring.request_id(given)


def test_a_line_is_json_with_time_level_and_what_it_brings():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(monitoring.json_formatter())
    record = logging.LogRecord("x", logging.INFO, "f", 1, "request\nforged", (), None)
    record.status = 200
    handler.emit(record)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["status"] == 200
    assert {"time", "level", "message"} <= set(json.loads(line))


def test_the_configuration_is_one_that_logging_takes():
    config = monitoring.log_as_json()
    before = {
        name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate)
        for name in config["loggers"]
    }
    root = logging.getLogger().handlers[:]
    try:
        logging.config.dictConfig(config)
        assert all(logging.getLogger(name).handlers for name in config["loggers"])
    finally:
        logging.getLogger().handlers[:] = root
        for name, (handlers, propagate) in before.items():
            logging.getLogger(name).handlers[:], logging.getLogger(name).propagate = handlers, propagate


def test_counters_without_room_count_in_memory_and_are_said_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(monitoring, "lost", [])
    monkeypatch.setattr(monitoring, "_anyone", bytearray(1))
    monkeypatch.setattr(monitoring.log, "handlers", [logging.NullHandler()])
    whole = monitoring._Reserved(str(tmp_path / "counter_1.db"))
    whole.write_value("a", 3.0, 0.0)
    blocks = (tmp_path / "counter_1.db").stat().st_blocks
    assert blocks * 512 >= monitoring.COUNTERS_BYTES, "a hole is where SIGBUS comes from"
    with caplog.at_level(logging.ERROR, monitoring.log.name):
        for number in range(3):
            none = monitoring._Reserved(str(tmp_path / "none" / f"counter_{number}.db"))
            none.write_value("a", 2.0, 0.0)
            assert none.read_value("a") == (2.0, 0.0)
            none.close()
    assert [r.getMessage() for r in caplog.records] == [
        "predictions go on without /metrics: no room for counters: No such file or directory: see TMPDIR"
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_one_worker_does_not_share_the_others_know(tmp_path, monkeypatch):
    monkeypatch.setattr(monitoring, "_anyone", mmap.mmap(-1, 1))
    assert monitoring.missing() == ""
    if not (child := os.fork()):
        monitoring._Reserved(str(tmp_path / "none" / "counter_1.db"))
        os._exit(0)
    os.waitpid(child, 0)
    assert monitoring.missing() == "no room for the counters of a worker: see TMPDIR"


def test_a_file_of_counters_that_does_not_fit_is_not_left_in_part(tmp_path, monkeypatch):
    def full(path, *mode):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "open", full)
    with pytest.raises(OSError, match="No space"):
        monitoring.reserve(tmp_path / "counter_1.db")
    assert not list(tmp_path.iterdir())


def test_counters_are_shown_in_prometheus_text():
    monitoring.IMAGES.labels("Normal").inc()
    text = monitoring.exposition().decode()
    assert 'leakfree_films_total{diagnosis="Normal"}' in text and "leakfree_batch_films_bucket" in text
