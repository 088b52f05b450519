"""How much each leak inflates a score: paired draws, arms that differ in one switch, and their statistics."""
