"""A film becomes a capture: landmarks, head poses, cameras, mattes."""
