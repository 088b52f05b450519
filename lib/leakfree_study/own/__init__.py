"""A study on one's own images: what it lacks, and how its notebooks are worded."""
