"""How patient numbers were checked against other sources."""
