"""Array type names used in signatures, so that every module spells shapes the same way.

Dimension letters are listed in CONVENTIONS.md: b batch, h w c image, r rays, s samples,
n points, p planes, l layers of w, v views, f frames, e expression. `*b` is any leading batch.
"""

from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, PyTree, UInt8, UInt16

__all__ = ["Array", "Bool", "Float", "Int", "Key", "PRNGKeyArray", "PyTree", "UInt8", "UInt16"]
