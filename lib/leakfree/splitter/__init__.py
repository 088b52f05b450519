"""Make a split that does not leak, or repair one."""
