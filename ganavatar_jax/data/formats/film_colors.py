"""Colours of films brought to sRGB: HDR (HLG, PQ) is tone-mapped, wide gamuts are narrowed.

Numbers of H.273, as decoders give them: transfer 16 is PQ, 18 HLG; primaries 9 are BT.2020's, 12
Display P3's. Everything else is taken for sRGB, as players do.
"""

import functools

import numpy as np

from ganavatar_jax.core.arrays import Float, UInt8, UInt16

PQ, HLG = 16, 18
_PRIMARIES = {9: "BT.2020", 12: "Display P3"}
# Linear colours of the wide gamuts in those of sRGB, all with white D65.
_TO_SRGB = {
    9: np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
        np.float32,
    ),
    12: np.array(
        [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32
    ),
}
_WHITE_NITS = 203.0  # Of paper in HDR, BT.2408; white of the result.
_PEAK_NITS = 1000.0  # What films are graded for; brighter light is white.
_KNEE = 0.7  # Share of white up to which brightness stays as it is.
_LEVELS = 4096  # Steps of the tables, 12 bits.
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_HLG_GAMMA = 1.2  # Of a screen of 1000 nits, BT.2100.


def name_kind(transfer: int, primaries: int) -> str | None:
    """Names colours that need to be brought to sRGB.

    Args:
      transfer: H.273's number of the transfer function.
      primaries: H.273's number of the primaries.

    Returns:
      E.g. "HLG", or None where colours stay.
    """
    return {PQ: "PQ", HLG: "HLG"}.get(transfer) or _PRIMARIES.get(primaries)


def to_srgb(
    rgb: UInt16[np.ndarray, "h w 3"], *, transfer: int, primaries: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Brings colours to sRGB.

    Args:
      rgb: 0..65535, in the film's coding.
      transfer: H.273's number of the transfer function.
      primaries: H.273's number of the primaries; HDR without is taken for BT.2020.

    Returns:
      The picture in sRGB.

    Source: ITU-R BT.2100 (PQ, HLG and its screen of 1000 nits), BT.2408 (white of 203 nits); the
      roll-off above the knee is a rational one through the peak, hues are kept.
    """
    place = rgb >> 4
    if transfer in (PQ, HLG):
        light = _linear_table(transfer)[place]
        if transfer == HLG:
            luma = np.maximum(light @ _LUMA_2020, 1e-6)[..., None]
            light *= luma ** np.float32(_HLG_GAMMA - 1.0) * np.float32(_PEAK_NITS / _WHITE_NITS)
        light = np.maximum(light @ _TO_SRGB.get(primaries, _TO_SRGB[9]).T, 0.0)
        light *= _roll_off(light.max(axis=-1, keepdims=True))
    else:
        light = _srgb_to_linear(_LEVELS)[place] @ _TO_SRGB[primaries].T
    steps = np.clip(light * np.float32(_LEVELS * 4 - 1) + 0.5, 0, _LEVELS * 4 - 1)
    return _linear_to_srgb(_LEVELS * 4)[steps.astype(np.uint16)]


def _roll_off(brightest: Float[np.ndarray, "h w 1"]) -> Float[np.ndarray, "h w 1"]:
    """What light is multiplied with: 1 up to the knee, the peak becomes white."""
    span, peak = 1.0 - _KNEE, _PEAK_NITS / _WHITE_NITS - _KNEE
    over = np.clip(brightest - _KNEE, 0.0, peak)
    # x / (1 + x (1 / span - 1 / peak)): slope 1 at the knee, `span` at the peak.
    mapped = _KNEE + over / (1.0 + over * (1.0 / span - 1.0 / peak))
    return np.where(brightest > _KNEE, mapped / np.maximum(brightest, _KNEE), 1.0).astype(
        np.float32
    )


@functools.cache
def _linear_table(transfer: int) -> Float[np.ndarray, " l"]:
    """Light of a code: PQ in units of white, HLG as the scene's, 0..1."""
    code = (np.arange(_LEVELS) + 0.5) / _LEVELS
    if transfer == PQ:
        m1, m2 = 2610 / 16384, 2523 / 4096 * 128
        c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        power = code ** (1.0 / m2)
        light = 1e4 * (np.maximum(power - c1, 0.0) / (c2 - c3 * power)) ** (1.0 / m1)
        return (light / _WHITE_NITS).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    low = code**2 / 3.0
    return np.where(code <= 0.5, low, (np.exp((code - c) / a) + b) / 12.0).astype(np.float32)


@functools.cache
def _srgb_to_linear(count: int) -> Float[np.ndarray, " l"]:
    code = (np.arange(count) + 0.5) / count
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


@functools.cache
def _linear_to_srgb(count: int) -> UInt8[np.ndarray, " l"]:
    light = np.arange(count) / (count - 1)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255.0 * code).astype(np.uint8)
