"""Readers of capture layouts; each yields canonical frames."""
