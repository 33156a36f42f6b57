"""The networks and training phases in plain PyTorch, written from a description of the method.

They stand beside `ganavatar_jax` to be compared with it: same weights, same numbers, nothing
imported from it.
"""
