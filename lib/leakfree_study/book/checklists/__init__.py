"""Checklists that the study answers, with every number read from a run: REFORMS and the model info sheet."""
