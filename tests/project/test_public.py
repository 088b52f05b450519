"""What `import leakfree` offers: each name is imported when it is used, and has an example."""

import doctest
import subprocess
import sys

import pytest

import leakfree


@pytest.mark.parametrize("name", leakfree.__all__)
def test_the_example_of_a_public_name_runs(name, repository, monkeypatch):
    monkeypatch.chdir(repository)
    value = getattr(leakfree, name)
    assert value.__name__ == name
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    # The docstring itself: examples of methods are those of their own tests.
    found = [test for test in doctest.DocTestFinder(recurse=False).find(value, name) if test.examples]
    assert found, "an example is missing"
    for test in found:
        said = []
        runner.run(test, out=said.append)
        assert not runner.failures, "".join(said)


def test_names_are_in_order_and_told():
    assert list(leakfree._HOMES) == leakfree.__all__
    assert set(leakfree.__all__) <= set(dir(leakfree))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = leakfree.nothing


def test_no_name_is_that_of_a_room(repository):
    rooms = {path.name for path in (repository / "lib" / "leakfree").iterdir()}
    assert not rooms & set(leakfree.__all__)


def test_importing_imports_nothing_else():
    code = "import sys, leakfree; print([n for n in sys.modules if n.startswith(('leakfree.', 'numpy'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
