"""Readers of files that strangers made: pickles and npz, without running what they carry."""
