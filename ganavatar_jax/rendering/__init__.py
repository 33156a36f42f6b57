"""Volume rendering of a field given as a callable."""
