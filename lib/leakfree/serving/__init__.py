"""The service: HTTP around `leakfree.predict.classifier`."""
