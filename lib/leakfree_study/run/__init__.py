"""One run: its folder, its cells, its notebooks."""
