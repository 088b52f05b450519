"""An error that nobody foresaw is one line, with an exit code that no finding has."""

from leakfree.base.failures import INTERNAL, internal_error


def failing():
    try:
        raise KeyError("a\nb")
    except KeyError as error:
        return error


def test_it_is_one_line_that_says_what_and_where(capsys, monkeypatch):
    monkeypatch.delenv("LEAKFREE_TRACEBACK", raising=False)
    assert internal_error("leakfree", failing()) == INTERNAL == 3
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "Traceback" not in err
    assert "internal error: KeyError" in err and "test_internal_errors.py, line" in err


def test_all_of_it_is_shown_to_who_asks(capsys, monkeypatch):
    monkeypatch.setenv("LEAKFREE_TRACEBACK", "1")
    internal_error("run_all", failing())
    assert "Traceback" in capsys.readouterr().err
