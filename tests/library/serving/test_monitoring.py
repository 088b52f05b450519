"""Logs are JSON lines that hold nothing of an image; request ids are harmless."""

import io
import json
import logging
import logging.config

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


def test_counters_are_shown_in_prometheus_text():
    monitoring.IMAGES.labels("Normal").inc()
    text = monitoring.exposition().decode()
    assert 'leakfree_films_total{diagnosis="Normal"}' in text and "leakfree_batch_films_bucket" in text
