"""Task prepare_data: a capture becomes the canonical dataset of the run."""

import contextlib
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from ganavatar_jax.apps import completeness, experiment, experiment_config
from ganavatar_jax.core import errors
from ganavatar_jax.data import head_alignment, head_landmarks
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.faces import estimators
from ganavatar_jax.runs import progress, run_dir

STAGE = "prepare_data"
_LOG = logging.getLogger(__name__)
# What the stages of a film do.
_STAGES = {
    "landmarks": "reading faces",
    "poses": "finding the head's poses",
    "features": "looking for features of the head",
    "matches": "comparing views",
    "cameras": "adjusting cameras",
    "images": "cutting out heads",
    STAGE: "checking and storing frames",
}


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Prepares the dataset, unless an equal one is there.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      DataFormatError: the capture breaks its layout.
      RunError: the run folder cannot be used.
    """
    with experiment.hold_run(config, workdir, prepares=True) as (resolved, opened):
        prepare(resolved, opened)


def dataset_folder(opened: run_dir.RunDir) -> pathlib.Path:
    """Returns where the run keeps its datasets.

    Args:
      opened: The run.

    Returns:
      The folder.
    """
    return opened.folder("dataset")


def prepare(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> None:
    """Prepares the dataset and the report on it.

    Args:
      resolved: The configuration.
      opened: The run.

    Raises:
      DataFormatError: the capture breaks its layout, or no frame trains.
      RunError: the folder cannot be written.
    """
    from ganavatar_jax.reports import capture_report, clip_report

    folder, begun = dataset_folder(opened), completeness.begin(STAGE, resolved, opened)
    with contextlib.ExitStack() as stack:
        show = _Bars(stack)
        data, facts, capture = resolved.data, {}, None
        if data.format == "video":
            from ganavatar_jax.films import video_capture

            capture = folder / "video_capture"
            facts = video_capture.prepare_video(
                data, resolved.estimator, capture, progress=show.stage
            )
            stack.close()  # The last bar ends before what was found is told.
            _LOG.info("%s: %s", data.source, ", ".join(f"{k} {v}" for k, v in facts.items()))
            _tell(data.source, clip_report.read(capture) or {})
            # The truth is compared with and changes nothing in the dataset.
            made = dataclasses.replace(data.video, truth="")
            data = dataclasses.replace(data, source=str(capture), format="eg3d", video=made)
        summary = gan_frames.prepare(
            data,
            folder,
            progress=functools.partial(show.stage, STAGE),
            find_landmarks=_find_landmarks(resolved),
            box_side=resolved.generator.render.box_warp,
        )
    splits = summary["splits"]
    fix = "Check data.source and data.split."
    experiment.refuse_empty(splits.get("train", 0), what="training frame", fix=fix)
    keys = ("splits", "resolution", "background", "source", "expression_names", "alignment")
    info, known = {key: summary[key] for key in keys}, completeness.judge(STAGE, resolved, opened)
    # The marker may be older than the dataset where a run was interrupted between the two.
    same = known.stands and all((known.info or {}).get(key) == info[key] for key in keys)
    renewed = summary["rebuilt"] or not same
    shown: dict[str, Any] = {"box_side": resolved.generator.render.box_warp, "video": facts}
    shown["film"] = capture
    if renewed or not capture_report.is_current(opened, summary["fingerprint"], **shown):
        found = capture_report.write_report(opened, folder, **shown)
        for warning in found["warnings"]:
            _LOG.warning("%s: %s", resolved.data.source, warning)
        if renewed:  # Otherwise later stages would take it for another dataset.
            completeness.finish(begun, resolved, opened, info | {"flags": found["flags"]})


def _tell(source: str, clip: Mapping[str, Any]) -> None:
    """Says what a film shows, what would be better, and what to look at."""
    if "line" in clip:
        _LOG.info("%s: the head %s.", source, clip["line"])
    if clip.get("advice"):
        _LOG.info("%s: for a better film: %s.", source, "; ".join(clip["advice"]))
    for flag in clip.get("flags", ()):
        _LOG.warning("%s: %s", source, flag["message"])


class _Bars:
    """One progress bar a stage, closed when the next begins."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._bar: progress.Progress | None = None
        self._title = ""

    def stage(self, title: str, done: int, total: int) -> None:
        """Says at once that a stage begins, then shows how far it is."""
        if self._bar is None or title != self._title:
            self._stack.close()
            _LOG.info("%s: %s.", STAGE, _STAGES.get(title, title))
            bar = progress.Progress(total, unit="frame", title=title, every_s=10, beats=True)
            self._bar, self._title = self._stack.enter_context(bar), title
        if done == 0:
            return  # The first update starts the clock; it comes with the first frames.
        self._bar.update(done - self._bar.done)


def _find_landmarks(
    resolved: experiment_config.ExperimentConfig,
) -> head_landmarks.FindLandmarks | None:
    """Loads the face detector where the alignment looks at faces."""
    data = resolved.data
    method = head_alignment.resolve_method(data)
    by_number = method == "scale" and data.align.scale > 0
    if method not in ("auto", "scale", "landmark_normalization") or by_number:
        return None
    if resolved.estimator.name != "mediapipe":
        raise errors.EstimatorError(
            f'data.align.method "{method}" needs face landmarks; estimator '
            f'"{resolved.estimator.name}" has none. Set estimator.name=mediapipe or another method.'
        )
    reader = estimators.make_estimator(resolved.estimator)

    def find(image):  # noqa: ANN001, ANN202 (head_landmarks.FindLandmarks)
        reading = reader.estimate(image)
        return None if reading is None else reading.landmarks

    return find
