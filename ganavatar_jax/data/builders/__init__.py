"""TFDS builders that write canonical datasets."""
