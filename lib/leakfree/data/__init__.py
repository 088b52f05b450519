"""How data as people have it become images with labels, parts and patients."""
