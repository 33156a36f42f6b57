"""Foundations every other layer may use: errors, configs, trees, random streams, images."""
