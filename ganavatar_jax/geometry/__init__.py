"""Cameras, rays and boxes."""
