"""Mattes by a network in an ONNX file that the user has; two layouts are known by their inputs.

    one image      [1, 3, h, w] in -1..1 to one matte [1, 1, h, w] (MODNet)
    recurrent      src [1, 3, h, w] in 0..1, r1i to r4i, downsample_ratio to fgr, pha, r1o to r4o
                   (Robust Video Matting); the memory r1 to r4 goes from frame to frame

Sides that the file leaves open are chosen here. A network without colours of its own gets them from
PyMatting, as the selfie segmenter does.

Source: MODNet (Ke et al. 2022) and RVM (Lin et al. 2022), documentation of their exports.
"""

import importlib
from typing import Any

import numpy as np
from PIL import Image

from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.films import matte_solver, matting

_SIDE = 512  # What MODNet was trained at, and the most RVM's first stage shall see.
_STATES = ("r1", "r2", "r3", "r4")
_RECURRENT = {"src", "downsample_ratio", *(f"{name}i" for name in _STATES)}
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxMatter:
    """Makes mattes of square images, in order of time. Not safe to share by threads.

    Attributes:
      takes_plates: Whether a known background is of use.
    """

    takes_plates = False

    def __init__(self, model_path: str) -> None:
        """Loads the network and finds out its layout.

        Args:
          model_path: The .onnx file.

        Raises:
          EstimatorError: there is no such file, it is no ONNX model, or its layout is unknown.
          MissingDependencyError: ONNX Runtime is not installed, or PyMatting where it is needed.
        """
        runtime = _import_runtime()
        self._path = files.expand_user(model_path)
        if not self._path.is_file():
            raise errors.EstimatorError(
                f"{self._path}: expected an ONNX file of a matting network; there is none. Set "
                "data.video.matte_model to its path."
            )
        self._errors = _runtime_errors()
        try:
            session = runtime.InferenceSession(str(self._path), providers=["CPUExecutionProvider"])
        except self._errors as error:
            raise errors.EstimatorError(
                f"{self._path}: expected an ONNX model; it cannot be loaded ({_line(error)}). "
                "Download or export it again."
            ) from error
        self._session = session
        self._inputs = {node.name: node for node in session.get_inputs()}
        self._outputs = [node.name for node in session.get_outputs()]
        self._image = self._find_layout()
        self._side, self._dtype = self._image_side(), self._number_type()
        self.forget()
        if "fgr" not in self._outputs:
            matte_solver.import_pymatting()  # Told here if it is missing, not at the first frame.

    @property
    def remembers(self) -> bool:
        """Whether a matte depends on the images before it."""
        return set(self._inputs) == _RECURRENT

    def forget(self) -> None:
        """Begins a new shot: what was seen before says nothing about it."""
        self._memory = {f"{name}i": np.zeros((1, 1, 1, 1), self._dtype) for name in _STATES}

    def matte(
        self, image_u8: UInt8[np.ndarray, "h w 3"], hint: matting.Hint = matting.NO_HINT
    ) -> matte_solver.Matte:
        """Separates the person from the background.

        Args:
          image_u8: Square RGB image of a head, 0..255.
          hint: Of no use to it: the network looks for itself.

        Returns:
          The matte, as large as the image.

        Raises:
          EstimatorError: the network fails, or returns something that is no matte.
        """
        picture = Image.fromarray(image_u8)
        side = self._side or image_u8.shape[0]
        if picture.size != (side, side):
            picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        color = np.asarray(picture, np.float32) / 255.0
        found = self._run(color)
        alpha = self._plane(found["pha" if self.remembers else self._outputs[0]], side)
        size = image_u8.shape[1], image_u8.shape[0]
        if side < image_u8.shape[0]:
            large = matte_solver.follow_colors(alpha, color.astype(np.float64), image_u8 / 255.0)
        else:
            large = _resize(alpha, size)
        if "fgr" in found:
            planes = [self._plane(found["fgr"][:, i : i + 1], side) for i in range(3)]
            foreground = np.stack([_resize(plane, size) for plane in planes], axis=-1)
        else:
            foreground = matte_solver.free_colors(image_u8, large)
        return matte_solver.Matte(matte_solver.to_u8(large), matte_solver.to_u8(foreground))

    def _find_layout(self) -> str:
        """Returns the name of the input that takes the image."""
        names = set(self._inputs)
        if names == _RECURRENT and {"pha", *(f"{name}o" for name in _STATES)} <= set(self._outputs):
            return "src"
        single = [n for n, node in self._inputs.items() if _is_image(node.shape, channels=3)]
        matte = _is_image(self._session.get_outputs()[0].shape, channels=1)
        if len(names) == len(single) == len(self._outputs) == 1 and matte:
            return single[0]
        listed = ", ".join(f"{name} {node.shape}" for name, node in self._inputs.items())
        raise errors.EstimatorError(
            f"{self._path}: expected one image [1, 3, h, w] and one matte [1, 1, h, w] (MODNet), "
            "or src, r1i to r4i, downsample_ratio and pha, r1o to r4o (RVM); got inputs "
            f"{listed} and outputs {', '.join(self._outputs)}. Choose another export."
        )

    def _image_side(self) -> int:
        """Returns the side the network wants; 0 where it takes any."""
        height, width = self._inputs[self._image].shape[2:]
        if isinstance(height, int) and isinstance(width, int):
            if height != width:
                raise errors.EstimatorError(
                    f"{self._path}: expected a network for square images; it takes "
                    f"{width}x{height}. Export it square, or with open sides."
                )
            return height
        return 0 if self.remembers else _SIDE

    def _number_type(self) -> type[np.floating[Any]]:
        kind = self._inputs[self._image].type
        if kind not in _DTYPES:
            raise errors.EstimatorError(
                f"{self._path}: expected an image of float numbers; it takes {kind}. Choose an "
                "export in float32 or float16."
            )
        return _DTYPES[kind]

    def _run(self, color: Float[np.ndarray, "s s 3"]) -> dict[str, np.ndarray]:
        """Runs the network on one square; a recurrent one keeps its states for the next frame."""
        values = color if self.remembers else color * 2.0 - 1.0
        feed = {self._image: np.moveaxis(values, -1, 0)[None].astype(self._dtype)}
        if self.remembers:
            ratio = min(1.0, _SIDE / color.shape[0])
            feed |= self._memory | {"downsample_ratio": np.array([ratio], np.float32)}
        try:
            values = self._session.run(None, feed)
        except self._errors as error:
            raise errors.EstimatorError(
                f"{self._path}: the network failed on an image of {color.shape[0]} pixels "
                f"({_line(error)}). Choose another export."
            ) from error
        found = {n: np.asarray(v) for n, v in zip(self._outputs, values, strict=True)}
        if self.remembers:
            self._memory = {f"{name}i": found[f"{name}o"] for name in _STATES}
        return found

    def _plane(self, values: np.ndarray, side: int) -> Float[np.ndarray, "s s"]:
        if values.shape != (1, 1, side, side) or not np.isfinite(values).all():
            raise errors.EstimatorError(
                f"{self._path}: expected finite numbers of shape (1, 1, {side}, {side}); the "
                f"network returned {values.shape}. Choose another export."
            )
        return np.clip(values[0, 0].astype(np.float64), 0.0, 1.0)


def _resize(plane: Float[np.ndarray, "s s"], size: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    if plane.shape == size[::-1]:
        return plane
    picture = Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.clip(np.asarray(picture, np.float64), 0.0, 1.0)


def _is_image(shape: list[Any], *, channels: int) -> bool:
    """Whether a shape is [1, channels, h, w]; a side that is no number is open."""
    if len(shape) != 4:
        return False
    return all(
        want == side or not isinstance(side, int)
        for want, side in zip((1, channels), shape[:2], strict=True)
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _import_runtime():  # noqa: ANN202 (an optional module)
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise errors.MissingDependencyError(
            'mattes by an ONNX file (data.video.matte="onnx") need ONNX Runtime; it is not '
            "installed. pip install 'ganavatar-jax[preprocess]', or set "
            "data.video.matte=closed_form."
        ) from error
    return onnxruntime


def _runtime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's errors have no common class but Exception."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found = [value for value in vars(state).values() if isinstance(value, type)]
    return tuple(value for value in found if issubclass(value, Exception))
