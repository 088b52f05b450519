"""The base of every error that a user can mend."""


class LeakfreeError(Exception):
    """A known failure; the message is one line that names what is wrong and what to do.

    Every command prints the message without a traceback and ends with exit code 2, see `leakfree.cli.main`.

    Examples
    --------
    >>> from leakfree.base.errors import LeakfreeError
    >>> from leakfree.split.manifest import ManifestError
    >>> issubclass(ManifestError, LeakfreeError)
    True
    """
