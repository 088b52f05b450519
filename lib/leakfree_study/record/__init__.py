"""A finished run: checked, made again, compared."""
