"""Which expression estimator reads faces, and how carefully."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class EstimatorConfig:
    """Which estimator to use and how carefully it looks.

    Attributes:
      name: "mediapipe", "precomputed" (codes from a file) or "deep3dface".
      model_path: face_landmarker.task, None looks it up (see faces.model_files); with "deep3dface"
        its own weights.
      allow_download: Whether a missing model file may be fetched.
      codes_path: expressions.json or .npz, for "precomputed".
      min_confidence: Faces with a smaller presence score count as not readable, 0..1.
      upsample_px: Smaller images are enlarged until their longer side has this size, pixels.
      refine_passes: Times the landmarks are read again from their own region.
      tile_levels: How often the tile side halves when the face is searched; 0 searches no tiles.
      assume_face: Whether the whole image is read as a face where the detector finds none.
      flip_average: Whether MediaPipe also reads the mirrored image, which is steadier.
      measures: Whether the landmark distances of faces.measures are appended to the code.
      calibration: From MediaPipe's readings to ARKit weights: "synthetic-people", a file, or
        "none" for its own 52.
      num_threads: Threads of the face networks.
    """

    name: Literal["mediapipe", "precomputed", "deep3dface"] = "mediapipe"
    model_path: str | None = None
    allow_download: bool = True
    codes_path: str | None = None
    min_confidence: float = 0.5
    upsample_px: int = 256
    refine_passes: int = 1
    tile_levels: int = 2
    assume_face: bool = False
    flip_average: bool = True
    measures: bool = False
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
