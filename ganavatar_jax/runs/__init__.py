"""The run folder, its metrics and its progress."""
