"""Image and avatar quality metrics."""
