"""Gates where people work: scikit-learn, Keras, Lightning, Hugging Face, pytest."""
