"""Imports that wait for the first test of their file.

Collecting three thousand tests needs their names, not torch. A test file that uses slow packages, or modules
of the library that do, imports them in a block, below its other imports::

    import numpy as np
    from deferred import deferred

    with deferred:
        import torch

        from leakfree.models.training import Budget, fit

        BUDGET = Budget(epochs=2)

While pytest collects, such a name is a `Pending`; before the first test of the file runs, and before its
fixtures, `load` puts the real thing in its place. Outside of pytest's collection (in a worker process that
imports the file, say) the block imports at once. What is used while collecting, as in `parametrize`, cannot
wait: it says so, and is imported above the block.
"""

import builtins
import importlib
import sys
from types import FunctionType

#: Packages of which importing one takes long; none may be loaded when collection ends.
SLOW = ("captum", "deeplake", "timm", "torch", "torchvision")


class Pending:
    """A module, something in it, or what calling that returns: all of it later."""

    def __init__(self, module, path=(), called=None):
        self._module, self._path, self._called = module, path, called

    def _too_early(self):
        told = ".".join((self._module, *self._path))
        return AttributeError(f"{told} is used while tests are collected: import it above `with deferred`")

    def __getattr__(self, name):
        if name.startswith("__") or not deferred.inside:
            raise self._too_early()
        return Pending(self._module, (*self._path, name))

    def __call__(self, *arguments, **named):
        if not deferred.inside:
            raise self._too_early()
        return Pending(self._module, self._path, (arguments, named))

    def load(self):
        """Import it, and call it where the block does."""
        found = importlib.import_module(self._module)
        for name in self._path:
            try:
                found = getattr(found, name)
            except AttributeError:
                found = importlib.import_module(f"{found.__name__}.{name}")
        if self._called is None:
            return found
        arguments, named = self._called
        return found(*arguments, **named)


class _Deferred:
    """A context in which imports wait, as long as `collecting`."""

    collecting = inside = False

    def __enter__(self):
        if self.collecting:
            self.inside, self._import = True, builtins.__import__
            builtins.__import__ = self._wait

    def __exit__(self, *_):
        if self.inside:
            self.inside, builtins.__import__ = False, self._import

    @staticmethod
    def _wait(name, globals=None, locals=None, fromlist=(), level=0):
        # `import a.b` binds a; `import a.b as c` asks it for b; `from a.b import c` asks a.b for c.
        return Pending(name if fromlist else name.partition(".")[0])


deferred = _Deferred()


def load(module):
    """Put what `module` and the test files that lend to it wait for in its place, in default values too."""
    for name, value in list(vars(module).items()):
        if isinstance(value, Pending):
            setattr(module, name, value.load())
        elif isinstance(value, FunctionType):
            given = value.__defaults__ or ()
            value.__defaults__ = tuple(d.load() if isinstance(d, Pending) else d for d in given) or None
            home = sys.modules.get(value.__module__)
            if home not in (None, module) and vars(home).get("deferred") is deferred:
                load(home)
