"""A published network answers for new images."""
