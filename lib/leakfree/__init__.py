"""Patient-level data leakage in chest X-ray classification: the library behind the notebooks."""

__version__ = "0.1.0"
