"""Which matter cuts heads out, by the name of `data.video.matte`."""

from typing import Literal

from ganavatar_jax.films import matting, onnx_matting

Method = Literal["closed_form", "fast", "onnx"]
# Makes mattes of a video's images, called in order of time; `forget` goes before each new shot.
Matter = matting.SelfieMatter | onnx_matting.OnnxMatter


def make_matter(method: Method, *, model_path: str | None, allow_download: bool = True) -> Matter:
    """Loads what a method needs.

    Args:
      method: "closed_form" or "fast" (selfie segmenter), or "onnx".
      model_path: The method's model file; None looks the segmenter's up.
      allow_download: Whether the segmenter's file may be fetched where it is missing.

    Returns:
      The matter.

    Raises:
      EstimatorError: the model file is missing or not the expected one.
      MissingDependencyError: a package is not installed.
    """
    if method == "onnx":
        return onnx_matting.OnnxMatter(model_path or "")
    return matting.SelfieMatter(method=method, model_path=model_path, allow_download=allow_download)
