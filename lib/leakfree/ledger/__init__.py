"""Which images a stage really consumed."""
