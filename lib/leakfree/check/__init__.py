"""A linter for training code: which leaks can be read from a script or a notebook, without running it."""
