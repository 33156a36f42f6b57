"""Decides which frames train and which are held out; always the same ones."""

from collections.abc import Sequence

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.data import data_config, records

FrameList = list[records.FrameReference]


def split_frames(
    capture: records.Capture, config: data_config.SplitConfig
) -> tuple[FrameList, FrameList]:
    """Divides a capture's frames by the configured policy, then thins them out.

    Args:
      capture: The source; its frames are in order of time.
      config: The policy.

    Returns:
      Training frames and held-out frames, each in the capture's order; never a common one.
      Nothing is held out under "none", or where meta.json says so.

    Raises:
      DataFormatError: the capture lacks what the policy needs, or one side would be empty.

    Source: ours; holding out the end of a recording follows INSTA and GAN-Avatar.
    """
    policy = config.policy
    assigned = any(frame.split is not None for frame in capture.frames)
    if policy == "auto":
        policy = "meta" if assigned else "trailing_fraction"
    if policy == "meta":
        if not assigned:
            raise errors.DataFormatError(
                f'{capture.name}: data.split.policy "meta" needs "split" in meta.json; it is not '
                'there. Use "trailing_frames" or "trailing_fraction".'
            )
        train = [frame for frame in capture.frames if frame.split == "train"]
        test = [frame for frame in capture.frames if frame.split == "test"]
    elif policy == "sequences":
        train, test = _by_sequence(capture, config)
    elif policy == "blocks":
        train, test = _blocks(capture, config)
    elif policy == "none":
        train, test = list(capture.frames), []
    else:
        train, test = _trailing(capture, config, policy)
    may_be_empty = policy in ("meta", "none")
    if not train or (not test and not may_be_empty):
        empty = "training" if not train else "held-out"
        raise errors.DataFormatError(
            f'{capture.name}: data.split.policy "{policy}" leaves no {empty} frames of '
            f"{len(capture.frames)}. Change the data.split options or the split in meta.json."
        )
    train = _thin(train[:: config.train_stride], config.max_train_frames)
    return train, _thin(test, config.max_test_frames)


def _by_sequence(
    capture: records.Capture, config: data_config.SplitConfig
) -> tuple[FrameList, FrameList]:
    known = sorted({frame.sequence for frame in capture.frames})
    for name in config.test_sequences:
        if name not in known:
            listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            raise errors.DataFormatError(
                f'{capture.name}: data.split.test_sequences names "{name}", which is not a '
                f"sequence of this capture. It has: {listed}."
            )
    held_out = set(config.test_sequences)
    train = [frame for frame in capture.frames if frame.sequence not in held_out]
    return train, [frame for frame in capture.frames if frame.sequence in held_out]


def _trailing(
    capture: records.Capture, config: data_config.SplitConfig, policy: str
) -> tuple[FrameList, FrameList]:
    count = config.test_frames
    if policy == "trailing_fraction":
        count = round(config.test_fraction * len(capture.frames))
    frames = list(capture.frames)
    cut = max(len(frames) - count, 0)
    return frames[:cut], frames[cut:]


def _blocks(
    capture: records.Capture, config: data_config.SplitConfig
) -> tuple[FrameList, FrameList]:
    """Holds out blocks that end evenly over the recording; frames beside them take no part."""
    frames = [frame for frame in capture.frames if frame.split != "test"]
    count, blocks = len(frames), config.test_blocks
    length = max(round(config.test_fraction * count / blocks), 1)
    ends = np.round(count * np.arange(1, blocks + 1) / blocks).astype(int)
    held_out, beside = np.zeros(count, bool), np.zeros(count, bool)
    for end in ends:
        start = max(end - length, 0)
        held_out[start:end] = True
        beside[max(start - config.guard_frames, 0) : end + config.guard_frames] = True
    train = [frame for frame, near in zip(frames, beside, strict=True) if not near]
    return train, [frame for frame, out in zip(frames, held_out, strict=True) if out]


def _thin(frames: Sequence[records.FrameReference], limit: int) -> FrameList:
    if limit == 0 or len(frames) <= limit:
        return list(frames)
    chosen = np.linspace(0, len(frames) - 1, limit).round().astype(int)
    return [frames[index] for index in chosen]
