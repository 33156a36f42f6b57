"""Captures: one canonical frame record, readers, datasets, batches."""
