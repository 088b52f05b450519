"""The study of deep networks: training, what they look at, the sealed test."""
