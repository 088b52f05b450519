"""Which image trains and which one tests: split manifests."""
