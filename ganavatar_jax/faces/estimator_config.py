"""Which expression estimator reads faces, and how carefully."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class EstimatorConfig:
    """Which estimator to use and how carefully it looks."""

    name: Literal["mediapipe", "precomputed", "deep3dface"] = "mediapipe"
    # face_landmarker.task (None: looked up, see model_files); for "deep3dface" its own weights.
    model_path: str | None = None
    allow_download: bool = True  # whether a missing model file may be fetched
    codes_path: str | None = None  # expressions.json or .npz, for "precomputed"
    min_confidence: float = 0.5  # faces with a smaller presence score count as not readable
    upsample_px: int = 256  # smaller images are enlarged until their longer side has this size
    refine_passes: int = 1  # times the landmarks are read again from their own region
    tile_levels: int = 2  # how often the tile side halves when the face is searched; 0: never
    assume_face: bool = False  # read the whole image as a face where the detector finds none
    flip_average: bool = True  # MediaPipe also reads the mirrored image: steadier
    measures: bool = False  # append the landmark distances of measures.NAMES to the code
    # MediaPipe readings to ARKit weights: "synthetic-people", a file, or "none" for its own 52.
    calibration: str = "synthetic-people"
    num_threads: int = 1

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
          ValueError: a value is out of its range.
        """
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(f"min_confidence must be in [0, 1]; got {self.min_confidence}.")
        if self.upsample_px < 1 or self.num_threads < 1:
            raise ValueError(
                "upsample_px and num_threads must be >= 1; "
                f"got {self.upsample_px}, {self.num_threads}."
            )
        if self.refine_passes < 0 or self.tile_levels < 0:
            raise ValueError(
                "refine_passes and tile_levels must be >= 0; "
                f"got {self.refine_passes}, {self.tile_levels}."
            )
