"""Options of the tasks that use a finished avatar; light to import, as all of the config is."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class NovelViewConfig:
    """From where the avatar is shown, with which face.

    Attributes:
      path: "orbit" goes all around, "ellipse" swings before the face, "cameras" takes given ones.
      cameras: A JSON file with the given cameras: {"labels": [[name, [25 numbers]], ...]} as in an
        EG3D dataset.json, or a list of lists of 25 numbers.
      codes: A codes file (.json, .npz) whose frames are shown one after the other, as they are;
        empty shows the neutral face.
      frames: Cameras of "orbit" and "ellipse".
      fps: Frames a second of the video.
      yaw_deg: How far "ellipse" swings to each side, degrees.
      pitch_deg: How far "ellipse" swings up and down, degrees.
      pictures: Whether every frame is also written as PNG with its alpha.
      batch_size: Images rendered at once.
    """

    path: Literal["orbit", "ellipse", "cameras"] = "orbit"
    cameras: str = ""
    codes: str = ""
    frames: int = 96
    fps: float = 24.0
    yaw_deg: float = 35.0
    pitch_deg: float = 15.0
    pictures: bool = False
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.frames < 1 or not 0.0 < self.fps <= 240.0 or self.batch_size < 1:
            raise ValueError(
                "frames and batch_size must be at least 1, fps lie in 0..240; got "
                f"{self.frames}, {self.batch_size} and {self.fps}."
            )
        if (self.path == "cameras") != bool(self.cameras):
            raise ValueError(
                'cameras must name a file with path="cameras", and only then; got '
                f"{self.cameras!r} with {self.path!r}."
            )
        if not 0.0 <= self.pitch_deg <= 80.0:
            raise ValueError(f"pitch_deg must lie in 0..80; got {self.pitch_deg}.")


@dataclasses.dataclass(frozen=True)
class InterpolateConfig:
    """Between which faces the avatar moves.

    Attributes:
      space: "codes" goes from expression to expression, "latents" from random latent to random
        latent, whatever these show.
      source: A codes file from which `faces` expressions are taken, evenly spread; empty takes the
        liveliest coefficients one after the other, and the neutral face between them.
      faces: How many are passed.
      first_seed: Seed of the first random latent.
      psi: Truncation of random latents.
      step_s: Time from face to face, seconds.
      fps: Frames a second.
      batch_size: Images rendered at once.
    """

    space: Literal["codes", "latents"] = "codes"
    source: str = ""
    faces: int = 6
    first_seed: int = 0
    psi: float = 0.7
    step_s: float = 1.0
    fps: float = 25.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.faces < 2 or self.first_seed < 0 or self.batch_size < 1:
            raise ValueError(
                "faces must be at least 2, first_seed not negative, batch_size at least 1; got "
                f"{self.faces}, {self.first_seed} and {self.batch_size}."
            )
        if not 0.0 < self.step_s <= 60.0 or not 0.0 < self.fps <= 240.0:
            raise ValueError(
                f"step_s must lie in 0..60 and fps in 0..240; got {self.step_s} and {self.fps}."
            )


@dataclasses.dataclass(frozen=True)
class ReenactConfig:
    """Whose held-out frames the avatar shows again.

    Attributes:
      source: Run folder of another person's avatar; empty takes this avatar's own frames.
      camera: "source" looks as the frames' own cameras do, "front" from the front.
      largest_gain: Most times a coefficient is amplified when another person's range is brought to
        this avatar's.
      fps: Frames a second of the video.
      batch_size: Images rendered at once.
    """

    source: str = ""
    camera: Literal["source", "front"] = "source"
    largest_gain: float = 2.0
    fps: float = 25.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.largest_gain <= 0 or not 0.0 < self.fps <= 240.0 or self.batch_size < 1:
            raise ValueError(
                "largest_gain must be above 0, fps lie in 0..240, batch_size be at least 1; got "
                f"{self.largest_gain}, {self.fps} and {self.batch_size}."
            )


@dataclasses.dataclass(frozen=True)
class ExportWebConfig:
    """What the page of the export_web task holds.

    Attributes:
      components: Most principal components of the planes.
      max_mb: Largest size of the page, 10^6 bytes; components are left out until it fits.
      full_px: Rays along a side of the picture when nothing moves.
      title: Name on the page; empty takes the run folder's.
      face_script: Address of a script of yours that reads the webcam, and the only one that the
        page may ask; empty lets it ask none, and the user choose a file. See docs/web.md.
    """

    components: int = 32
    max_mb: float = 15.0
    full_px: int = 256
    title: str = ""
    face_script: str = ""

    def __post_init__(self) -> None:
        if self.components < 1 or not 0.0 < self.max_mb <= 500.0 or not 16 <= self.full_px <= 2048:
            raise ValueError(
                "components must be at least 1, max_mb lie above 0, at most 500, full_px in "
                f"16..2048; got {self.components}, {self.max_mb} and {self.full_px}."
            )
        if self.face_script and not self.face_script.startswith(("https://", "http://")):
            raise ValueError(
                "face_script must be an address that begins with https:// or http://; got "
                f"{self.face_script!r}. Leave it empty to choose a local file in the browser."
            )


@dataclasses.dataclass(frozen=True)
class ExportMeshConfig:
    """How the surface is cut out of the density.

    Attributes:
      codes: A codes file whose first frame is the mesh's face, as it is; empty takes the neutral
        one.
      density: Activated density at the surface, 1 / world unit.
      resolution: Points along each side of the volume's cube.
    """

    codes: str = ""
    density: float = 10.0
    resolution: int = 160

    def __post_init__(self) -> None:
        if self.density <= 0 or not 16 <= self.resolution <= 768:
            raise ValueError(
                "density must be above 0 and resolution lie in 16..768; got "
                f"{self.density} and {self.resolution}."
            )
