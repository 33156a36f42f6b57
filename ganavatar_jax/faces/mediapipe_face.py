"""MediaPipe's face landmarker, run by LiteRT alone: find the face, 478 landmarks, 52 blendshapes.

The `.task` file is a zip of three nets. Each image is read on its own: BlazeFace finds the face,
the landmark net reads an upright 256 px crop around it, then again the crop that those landmarks
suggest, and the blendshape net turns 146 landmarks into coefficients. Faces that are small in
the image are searched in overlapping tiles, faces that fill it in an enlarged frame.
Source: MediaPipe Face Landmarker (behaviour of the model file); Grishchenko et al. 2020
(Attention Mesh) for the landmarks.
"""

import dataclasses
import zipfile
from collections.abc import Iterator

import numpy as np
from ai_edge_litert import interpreter
from PIL import Image

from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.faces import (
    calibration,
    coefficients,
    estimation,
    estimator_config,
    face_detector,
    measures,
    model_files,
    regions,
)

_LANDMARK_INPUT_PX = 256
_MIN_DETECTION_SCORE = 0.5  # MediaPipe's default.
_REGION_SCALE = 1.5  # Side of the landmark crop over the face's longest side, as in MediaPipe.
_ZOOM_OUT = 1.5  # Faces that fill the image are looked for in a frame this much larger.
_MIN_TILE_PX = 64  # Faces in smaller tiles, in pixels of the given image, are beyond reading.
_MAX_REGION = 4.0  # Landmarks that ask for a larger crop, in image sides, are no face.
_RIGHT_EYE_KEYPOINT, _LEFT_EYE_KEYPOINT = 0, 1  # of the detector
_RIGHT_EYE, _LEFT_EYE = 33, 263  # outer eye corners among the landmarks; the person's sides
_READ_NAMES = (*coefficients.MEDIAPIPE_NAMES, *measures.NAMES)

# The landmarks whose x and y the blendshape net takes, in its order.
# fmt: off
_BLENDSHAPE_LANDMARKS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63,
    65, 66, 67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133,
    136, 144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163,
    168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270,
    276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317,
    318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379,
    380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454,
    466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)
# fmt: on


class MediaPipeFace:
    """An `estimation.Estimator` of MediaPipe's 52 coefficients, or of what they are calibrated to.

    Not safe to share by threads.
    """

    def __init__(self, config: estimator_config.EstimatorConfig) -> None:
        """Finds the model file, checks it and loads its nets.

        Args:
          config: Where the model is, how carefully to look and what to add to the coefficients.

        Raises:
          EstimatorError: the model file is missing or not the expected one, or there is no such
            calibration.
          DataFormatError: the calibration file breaks its format.
        """
        self._config = config
        named = config.calibration
        self._calibration = None if named == calibration.NONE else calibration.load(named)
        own = self._calibration.names if self._calibration else coefficients.MEDIAPIPE_NAMES
        self.names: tuple[str, ...] = (*own, *(measures.NAMES if config.measures else ()))
        path = model_files.find(
            model_files.FACE_LANDMARKER,
            path=config.model_path,
            allow_download=config.allow_download,
        )
        with zipfile.ZipFile(path) as task:
            self._detector, self._landmarker, self._blendshapes = (
                _Net(task.read(f"{name}.tflite"), num_threads=config.num_threads)
                for name in ("face_detector", "face_landmarks_detector", "face_blendshapes")
            )
        self._anchors = face_detector.make_anchors()

    def estimate(
        self, image_u8: UInt8[np.ndarray, "h w 3"], *, frame: str | None = None
    ) -> estimation.Reading | None:
        """Reads the most face-like face of an image.

        Args:
          image_u8: RGB image, 0..255.
          frame: Not needed; the image says it all.

        Returns:
          The reading, or None when no face is found or the landmark net is not sure of it.
        """
        del frame
        reading = self._read(image_u8)
        if reading is None:
            return None
        code = reading.code
        if self._config.flip_average:
            mirrored = self._read(np.ascontiguousarray(image_u8[:, ::-1]))
            if mirrored is not None:
                code = (code + coefficients.mirror(mirrored.code, _READ_NAMES)) / 2
        return dataclasses.replace(reading, code=self._finished(code))

    def count_faces(self, image_u8: UInt8[np.ndarray, "h w 3"]) -> int:
        """Counts the faces that the detector finds in the whole image.

        Args:
          image_u8: RGB image, 0..255.

        Returns:
          Number of separate faces; small ones may be missed.
        """
        whole = regions.whole_image(image_u8.shape[1], image_u8.shape[0])
        return len(self._detect(image_u8, whole))

    def _read(self, image_u8: UInt8[np.ndarray, "h w 3"]) -> estimation.Reading | None:
        longest = max(image_u8.shape[:2])
        factor = max(1.0, self._config.upsample_px / longest)
        picture_u8 = _enlarged(image_u8, factor)
        for region in self._face_regions(picture_u8, min_tile_px=factor * _MIN_TILE_PX):
            landmarks, presence = self._read_landmarks(picture_u8, region)
            if presence >= self._config.min_confidence:
                landmarks /= np.float32(factor)
                return estimation.Reading(self._code(landmarks), presence, landmarks)
        return None

    def _code(self, landmarks: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, " e"]:
        # The blendshape net itself removes shift and scale, so any pixel unit will do.
        (code,) = self._blendshapes(landmarks[None, _BLENDSHAPE_LANDMARKS, :2])
        return np.concatenate([code, measures.measure(landmarks)])

    def _finished(self, code: Float[np.ndarray, " e"]) -> Float[np.ndarray, " k"]:
        # Everything that is read, named by _READ_NAMES, to what was asked for.
        if self._calibration is None:
            return coefficients.select(code, _READ_NAMES, self.names)
        own = self._calibration.apply(code, _READ_NAMES)
        if not self._config.measures:
            return own
        return np.concatenate([own, coefficients.select(code, _READ_NAMES, measures.NAMES)])

    def _face_regions(
        self, picture_u8: UInt8[np.ndarray, "h w 3"], *, min_tile_px: float
    ) -> Iterator[regions.Region]:
        """Yields where a face may be: the likely view first, costlier searches if asked on.

        Last comes the whole image, where a face is to be assumed.
        """
        height, width, _ = picture_u8.shape
        whole = regions.whole_image(width, height)
        larger = regions.Region(width / 2, height / 2, whole.side_px * _ZOOM_OUT)
        searches = [[whole], [larger]]
        searches += [
            regions.tiles(width, height, level=level)
            for level in range(1, self._config.tile_levels + 1)
            if whole.side_px / 2**level >= min_tile_px
        ]
        for views in searches:
            hits = [hit for view in views for hit in self._detect(picture_u8, view)]
            if hits:
                yield max(hits, key=lambda hit: hit[0])[1]
        if self._config.assume_face:
            yield whole

    def _detect(
        self, picture_u8: UInt8[np.ndarray, "h w 3"], view: regions.Region
    ) -> list[tuple[float, regions.Region]]:
        """Finds faces within a view: pairs of score and landmark region."""
        size_px = face_detector.INPUT_PX
        crop = regions.crop(picture_u8, view, size_px=size_px).astype(np.float32)
        regressors, logits = self._detector(crop[None] / 127.5 - 1.0)
        detections = face_detector.merge_overlapping(
            face_detector.decode(
                regressors[0], logits[0, :, 0], self._anchors, min_score=_MIN_DETECTION_SCORE
            )
        )
        return [
            (float(score), _region_of_detection(box, keypoints, view))
            for box, keypoints, score in zip(
                detections.boxes, detections.keypoints, detections.scores, strict=True
            )
        ]

    def _read_landmarks(
        self, picture_u8: UInt8[np.ndarray, "h w 3"], region: regions.Region
    ) -> tuple[Float[np.ndarray, "478 3"], float]:
        """Reads landmarks (picture pixels) and presence; each pass recentres the region."""
        largest_px = _MAX_REGION * max(picture_u8.shape)
        landmarks, presence = np.zeros((478, 3), np.float32), 0.0
        for _ in range(self._config.refine_passes + 1):
            if not 1.0 <= region.side_px <= largest_px:
                return landmarks, 0.0
            crop = regions.crop(picture_u8, region, size_px=_LANDMARK_INPUT_PX)
            points, logit, _ = self._landmarker(crop[None].astype(np.float32) / 255.0)
            unit = points.reshape(478, 3) / _LANDMARK_INPUT_PX
            landmarks[:, :2] = regions.to_image(unit[:, :2], region)
            landmarks[:, 2] = unit[:, 2] * region.side_px
            presence = float(1.0 / (1.0 + np.exp(-logit.item())))
            region = _region_of_landmarks(landmarks)
        return landmarks, presence


class _Net:
    """One LiteRT net with a single input."""

    def __init__(self, content: bytes, *, num_threads: int) -> None:
        self._interpreter = interpreter.Interpreter(model_content=content, num_threads=num_threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]

    def __call__(self, inputs: Float[np.ndarray, "..."]) -> list[Float[np.ndarray, "..."]]:
        self._interpreter.set_tensor(self._input, inputs)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def _enlarged(image_u8: UInt8[np.ndarray, "h w 3"], factor: float) -> UInt8[np.ndarray, "H W 3"]:
    if factor == 1.0:
        return image_u8
    height, width, _ = image_u8.shape
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(image_u8).resize(size, Image.Resampling.LANCZOS))


def _region_of_detection(
    box: Float[np.ndarray, "4"], keypoints: Float[np.ndarray, "6 2"], view: regions.Region
) -> regions.Region:
    center = regions.to_image((box[None, :2] + box[None, 2:]) / 2, view)[0]
    side_px = float((box[2:] - box[:2]).max()) * view.side_px * _REGION_SCALE
    angle = regions.eye_line_angle(keypoints[_RIGHT_EYE_KEYPOINT], keypoints[_LEFT_EYE_KEYPOINT])
    return regions.Region(float(center[0]), float(center[1]), side_px, angle)


def _region_of_landmarks(landmarks: Float[np.ndarray, "478 3"]) -> regions.Region:
    points = landmarks[:, :2]
    angle = regions.eye_line_angle(points[_RIGHT_EYE], points[_LEFT_EYE])
    return regions.around_points(points, angle=angle, scale=_REGION_SCALE)
