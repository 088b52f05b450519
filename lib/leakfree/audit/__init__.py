"""Find the ways in which a split leaks, and prove what was consumed."""
