"""From images as they are to a cohort: one table row for each image."""
