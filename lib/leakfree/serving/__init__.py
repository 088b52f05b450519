"""The service: HTTP around `leakfree.classifier`."""
