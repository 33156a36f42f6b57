"""Training losses as pure functions; networks arrive as callables."""
