"""Which reader opens which `data.format`.

A reader is a module with `read_capture(tree, options)`; a new layout is a new module and a line
here and in `data_config.FormatName`.
"""

from ganavatar_jax.data import data_config
from ganavatar_jax.data.formats import (
    assembly,
    colmap,
    eg3d,
    imavatar,
    insta,
    multiface,
    nerface,
    nersemble,
    polycam,
    record3d,
    tracker_frames,
    transforms,
    vhap,
)

READERS: dict[data_config.FormatName, assembly.Opener] = {
    "eg3d": eg3d.open_capture,
    "insta": insta.open_capture,
    "nerface": nerface.open_capture,
    "imavatar": imavatar.open_capture,
    "multiface": multiface.open_capture,
    "colmap": colmap.open_capture,
    "nersemble": nersemble.open_capture,
    "transforms": transforms.open_capture,
    "record3d": record3d.open_capture,
    "polycam": polycam.open_capture,
    "tracker": tracker_frames.open_capture,
    "vhap": vhap.open_capture,
}
# Layouts whose cameras are in the head frame already.
ALIGNED: frozenset[data_config.FormatName] = frozenset({"eg3d", "video"})
