"""A study on the user's own images: its configuration, its images, its book."""
