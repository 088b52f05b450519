"""Models that only the study fits: classical ones, embeddings, pretraining without labels, recipes."""
