"""Make a split that does not leak, or repair one that does, and write it down."""
