"""Predictions, and what is computed from them."""
