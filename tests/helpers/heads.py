"""Heads that move before a camera, and the landmarks that a landmarker would put on them."""

import dataclasses

import numpy as np

from ganavatar_jax.films import face_model
from ganavatar_jax.geometry import head_angles

LASTING = 0.5  # Share of the variance between a person's views that lasts through a film.
CENTER_PX = np.array([320.0, 240.0])


def cameras(yaw_deg, pitch_deg=0.0, roll_deg=0.0) -> np.ndarray:
    """Cameras that see a head turned, nodded and tilted so."""
    yaw, pitch, roll = map(np.radians, np.broadcast_arrays(yaw_deg, pitch_deg, roll_deg))
    poses = np.tile(np.eye(4), (len(yaw), 1, 1))
    for pose, y, p, r in zip(poses, -yaw, -pitch, -roll, strict=True):
        back = np.array([np.sin(y) * np.cos(p), np.sin(p), np.cos(y) * np.cos(p)])
        right = np.array([np.cos(y), 0.0, -np.sin(y)])
        down = np.cross(-back, right)
        pose[:3, 0] = np.cos(r) * right + np.sin(r) * down
        pose[:3, 1] = -np.sin(r) * right + np.cos(r) * down
        pose[:3, 2], pose[:3, 3] = -back, 2.7 * back
    return poses


def swing(low, high, *, turns=2.0, count=200) -> np.ndarray:
    """Goes to and fro between two numbers."""
    wave = np.sin(np.linspace(0.0, 2 * np.pi * turns, count))
    return (low + high) / 2 + (high - low) / 2 * wave


@dataclasses.dataclass(frozen=True)
class Person:
    """Standard normal numbers that make a person of `face_model`."""

    identity: np.ndarray
    usual: np.ndarray  # What lasts of the expression.

    @classmethod
    def draw(cls, generator: np.random.Generator, *, size: float = 1.0) -> "Person":
        """Anybody; `size` 0 is the mean."""
        model = face_model.load_face_model()
        counts = model.identity.shape[-1], model.frame.shape[-1]
        return cls(*(size * generator.normal(size=count) for count in counts))


def landmarks(
    cam2world: np.ndarray,
    person: Person,
    generator: np.random.Generator,
    *,
    focal_px: float = 1500.0,
    expression: np.ndarray | float = 1.0,
    noise: float = 1.0,
) -> np.ndarray:
    """Draws a film's landmarks, [f 478 3] pixels: seen by a pinhole, depth from its mean.

    Expressions are drawn for each frame and multiplied by `expression`, or are an array, [f v].
    """
    model, count = face_model.load_face_model(), len(cam2world)
    if not isinstance(expression, np.ndarray):
        expression = expression * generator.normal(size=(count, model.frame.shape[-1]))
    features = face_model.drift_features(*head_angles.view_angles(cam2world[:, :3, :3]))
    points = model.mean + model.identity @ person.identity
    points = points + np.sqrt(LASTING) * model.frame @ person.usual
    points = points + np.einsum("ncv,fv->fnc", np.sqrt(1 - LASTING) * model.frame, expression)
    points = points + np.einsum("ncd,fd->fnc", model.drift, features)
    points = points + noise * model.noise * generator.normal(size=points.shape)
    world2cam = np.linalg.inv(cam2world)
    turned = np.einsum("fij,fnj->fni", world2cam[:, :3, :3], points)
    local = turned + world2cam[:, None, :3, 3]
    found = np.zeros((count, 478, 3))
    found[:, model.indices, :2] = focal_px * local[..., :2] / local[..., 2:] + CENTER_PX
    size = focal_px / world2cam[:, None, 2, 3]
    depth = turned[..., 2] - turned[..., 2].mean(axis=1, keepdims=True)
    found[:, model.indices, 2] = size * depth
    return found
