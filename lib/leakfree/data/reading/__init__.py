"""The one understanding of an input: what is part, label and patient, and what could not be placed."""
