"""The ways to spread a step over devices."""

from typing import Literal

Backend = Literal["jit", "shard_map", "pmap"]
