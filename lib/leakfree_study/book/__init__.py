"""The book: pages, and numbers quoted in them."""
