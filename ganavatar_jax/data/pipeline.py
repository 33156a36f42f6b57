"""The earlier name of `frame_table`, for programs that were written before it moved."""

from ganavatar_jax.data import frame_table

load_split = frame_table.load_split
