"""The avatar: load a finished run, turn expression codes into w, render from any camera.

avatar = Avatar.load("runs/quickstart")
image, alpha, depth = avatar.render(avatar.encode(codes), label25)
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.apps import completeness, drawing, experiment_config, stages, startup, weights
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, jax_check, portable
from ganavatar_jax.core.arrays import Array, Float, UInt8
from ganavatar_jax.core.readers import json_files
from ganavatar_jax.faces import normalization, turned_readings
from ganavatar_jax.geometry import cameras
from ganavatar_jax.models import generator, generator_config
from ganavatar_jax.runs import run_dir
from ganavatar_jax.training import mapping_config, mapping_step

MAPPING_FILE = weights.MAPPING
MAPPING_KIND = "expression_mapping"


@dataclasses.dataclass(frozen=True)
class Avatar:
    """A trained avatar.

    Attributes:
      g: Generator variables.
      g_config: Generator options.
      mapping: Parameters of the mapping network.
      mapping_config: Its options.
      normalizer: What it applies to codes: an affine map, whose `mean` and matrices are not where
        the codes of the pairs lay when codes are fed raw. For those see `neutral_code`, `code_std`.
      mean_w: Mean w its output is added to.
      frontal_label25: The frontal camera it was trained with.
      turned: What turning a head does to codes that the avatar's estimator reads; None where that
        is not known.
      matmul_precision: How its networks multiply, see `startup.DevicesConfig`; for this avatar
        only, whatever the process is set to.
    """

    g: Mapping[str, Any]
    g_config: generator_config.GeneratorConfig
    mapping: Mapping[str, Any]
    mapping_config: mapping_config.MappingConfig
    normalizer: normalization.CodeNormalizer
    mean_w: Float[np.ndarray, " d"]
    frontal_label25: Float[np.ndarray, "25"]
    matmul_precision: startup.MatmulPrecision = "highest"
    turned: turned_readings.TurnedReadings | None = None

    @classmethod
    def load(cls, workdir: str | pathlib.Path) -> "Avatar":
        """Loads the avatar of a run folder.

        Args:
          workdir: A run folder in which train_gan and train_mapping are complete.

        Returns:
          The avatar.

        Raises:
          RunError: the folder holds no finished avatar, or a mapping of another generator.
          ConfigError: its config is of another version.
          WeightError: its weights are damaged.
          BackendError: the installed JAX computes wrong.
        """
        jax_check.require_right_sums()
        path = pathlib.Path(workdir)
        if not (path / "config.json").is_file():
            raise errors.RunError(f"{path}: expected a run folder with config.json; got none.")
        fix = "restore it, or train in a new folder"
        stored = json_files.read_object(path / "config.json", fix=fix)
        stored = experiment_config.leave_gone_out(stored)
        resolved = config_lib.resolve(experiment_config.ExperimentConfig, stored)
        return load(resolved, run_dir.RunDir(path, primary=True))

    @classmethod
    def from_files(
        cls, generator_file: str | pathlib.Path, mapping_file: str | pathlib.Path
    ) -> "Avatar":
        """Loads an avatar from two files, without a run: imported or exported weights.

        Args:
          generator_file: A generator.safetensors; its header says how it is rendered.
          mapping_file: A mapping.safetensors.

        Returns:
          The avatar.

        Raises:
          WeightError: a file is damaged, of another kind, or the two do not fit each other.
          BackendError: the installed JAX computes wrong.
        """
        jax_check.require_right_sums()
        path = pathlib.Path(generator_file)
        metadata = portable.read_metadata(path)
        if metadata.get("kind") != "generator":
            raise errors.WeightError(
                f"{path}: expected the weights of a generator; got {metadata.get('kind')!r}."
            )
        try:
            g_config = config_lib.resolve(
                generator_config.GeneratorConfig, metadata["architecture"]
            )
        except errors.ConfigError as error:
            raise errors.WeightError(
                f"{path}: its header is of another version: {error}"
            ) from error
        abstract = jax.eval_shape(lambda k: generator.init(k, g_config), jax.random.key(0))
        g = weights.load_network(path, abstract)
        found = _assemble(g, g_config, pathlib.Path(mapping_file))
        if len(found.mean_w) != g_config.w_dim:
            raise errors.WeightError(
                f"{mapping_file}: maps to w of length {len(found.mean_w)}; the generator takes "
                f"{g_config.w_dim}. Use the mapping that was trained with it."
            )
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficients of the codes that drive it, in order."""
        return self.normalizer.names

    @property
    def neutral_code(self) -> Float[np.ndarray, " e"]:
        """Code of its face at rest; zeros where nobody knows it (imported)."""
        known = self.normalizer.statistics
        return np.zeros(len(self.names), np.float32) if known is None else known.rest

    @property
    def code_std(self) -> Float[np.ndarray, " e"] | None:
        """Standard deviation of the pairs' codes; None where nobody knows it (imported)."""
        known = self.normalizer.statistics
        return None if known is None else known.std

    def encode(
        self,
        codes: Float[np.ndarray, "f e"],
        *,
        statistics: tuple[np.ndarray, np.ndarray] | None = None,
        limit: float | None = 3.0,
    ) -> Float[np.ndarray, "f d"]:
        """Maps expression codes to w.

        Args:
          codes: Codes with the coefficients `names`.
          statistics: Mean and standard deviation [e] of the driver, where its codes do not come
            from the estimator the avatar was mapped with: they are brought to the mean and
            spread of the avatar's own codes. None takes codes as they are.
          limit: How many spreads of the pairs a code may lie from their mean, along each
            coefficient (each component with "pca"); the rest is cut off, because faces the pairs
            never showed are torn. None lets them, and nothing is cut off where the pairs' codes
            are not known.

        Returns:
          One w a frame.

        Raises:
          ValueError: codes or statistics have another width than `names`, or are not finite.
          ConfigError: statistics are given, and nobody knows those of the pairs (imported).

        Source: GAN-Avatar (Kabadayi et al. 2024); the change of statistics is ours.
        """
        codes = np.asarray(codes, np.float32)
        if codes.ndim != 2 or codes.shape[1] != len(self.names):
            raise ValueError(
                f"codes must be [frames, {len(self.names)}], columns {', '.join(self.names)}; got "
                f"{codes.shape}. Select them by name."
            )
        lost = np.flatnonzero(~np.isfinite(codes).all(axis=1))
        if len(lost):
            raise ValueError(
                f"codes must be finite; those of {len(lost)} frames are not, the first is frame "
                f"{lost[0]}. Leave frames without a code out, or fill them from their neighbours."
            )
        if statistics is not None:
            shapes = [np.shape(part) for part in statistics]
            if shapes != [(len(self.names),)] * 2:
                raise ValueError(
                    f"statistics must be mean and standard deviation, [{len(self.names)}] each; "
                    f"got {shapes}. Take them over the driver's codes, frame by frame."
                )
            codes = self.normalizer.restate(codes, *statistics)
        normalized = np.asarray(self.normalizer.apply(codes))
        if limit is not None:
            normalized = self.normalizer.limit(normalized, limit)
        # Powers of two, so that films of any length share a few programs.
        rows = 1 << max(len(codes) - 1, 0).bit_length()
        padded = np.zeros((rows, normalized.shape[1]), np.float32)
        padded[: len(codes)] = normalized
        with jax.default_matmul_precision(self.matmul_precision):
            w = _predict(dict(self.mapping), self.mean_w, padded, self.mapping_config)
        return np.asarray(w)[: len(codes)]

    def render(
        self,
        w: Float[np.ndarray, "..."],
        label25: Float[np.ndarray | Array, "..."],
        *,
        batch_size: int = 8,
    ) -> drawing.Rendered:
        """Renders frames, deterministically.

        Planes are kept while only the camera moves; a second call compiles nothing.

        Args:
          w: One latent a frame, [f, w_dim].
          label25: One camera a frame, [f, 25], or one for all, [25].
          batch_size: Most frames rendered at once.

        Returns:
          Images, 0..255, with alpha and depth.

        Raises:
          ValueError: w or label25 have another shape, or batch_size is below 1.

        Source: EG3D (Chan et al. 2022).
        """
        w, given = np.asarray(w), np.asarray(label25)
        if w.ndim != 2 or w.shape[1] != self.g_config.w_dim or not len(w):
            raise ValueError(
                f"w must be [frames, {self.g_config.w_dim}], one latent a frame; got {w.shape}. "
                "Make it with encode()."
            )
        if given.shape == (25,):
            given = np.tile(given, (len(w), 1))
        if given.shape != (len(w), 25):
            raise ValueError(
                f"label25 must be [{len(w)}, 25], one camera a frame of w, or [25], one for all; "
                f"got {given.shape}. Make it with geometry.cameras.to_label25()."
            )
        with jax.default_matmul_precision(self.matmul_precision):
            return self._drawer.draw(w, given, batch_size=batch_size)

    def stream(
        self, w: Float[np.ndarray, "f d"], label25: Float[np.ndarray, "f 25"], *, batch_size: int
    ) -> Iterator[UInt8[np.ndarray, "b h w 3"]]:
        """Renders as many frames as one likes, a batch in memory at a time.

        Args:
          w: One latent a frame.
          label25: One camera a frame.
          batch_size: Frames rendered at once.

        Yields:
          Images, 0..255, as those of `render`; the last batch may be smaller.

        Source: EG3D (Chan et al. 2022).
        """
        for start in range(0, len(w), batch_size):
            # All batches have one size: what fills up the last one is thrown away.
            rows = np.minimum(np.arange(start, start + batch_size), len(w) - 1)
            batch = self.render(w[rows], label25[rows], batch_size=batch_size)
            yield batch.image[: len(w) - start]

    @functools.cached_property
    def _drawer(self) -> drawing.Drawer:
        return drawing.Drawer(self.g, self.g_config)


@functools.partial(jax.jit, static_argnames="config")
def _predict(
    params: dict[str, Any],
    mean_w: Float[Array, " d"],
    normalized: Float[Array, "b e"],
    config: mapping_config.MappingConfig,
) -> Float[Array, "b d"]:
    """Maps with parameters as arguments: one program serves all avatars of a size."""
    return mapping_step.predict_w(params, mean_w, normalized, config)


def load(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> Avatar:
    """Loads the avatar of an open run.

    Args:
      resolved: The run's configuration.
      opened: The run.

    Returns:
      The avatar.

    Raises:
      RunError: the mapping has not been trained, or through another generator.
      WeightError: the weights are damaged.
    """
    completeness.check_avatar(resolved, opened)
    g = load_generator(resolved, opened)
    found = _assemble(g, resolved.generator, stages.export_path(opened, MAPPING_FILE))
    return dataclasses.replace(found, matmul_precision=resolved.devices.matmul_precision)


def _assemble(
    g: dict[str, Any], g_config: generator_config.GeneratorConfig, mapping_file: pathlib.Path
) -> Avatar:
    """Puts a generator and the mapping network of a file together."""
    variables, metadata = portable.load_params(mapping_file)
    if metadata.get("kind") != MAPPING_KIND:
        raise errors.WeightError(
            f"{mapping_file}: expected a mapping network; got {metadata.get('kind')!r}."
        )
    try:
        for key in ("mapping", "normalizer"):
            if not isinstance(metadata[key], dict):
                raise TypeError(f"{key} must be an object; got {metadata[key]!r:.40}")
        label25 = np.asarray(metadata["frontal_label25"], np.float32)
        if label25.shape != (25,):
            raise ValueError(f"frontal_label25 of shape {label25.shape}")
        return Avatar(
            g=g,
            g_config=g_config,
            mapping=jax.tree.map(jnp.asarray, variables["params"]),
            mapping_config=config_lib.resolve(mapping_config.MappingConfig, metadata["mapping"]),
            normalizer=normalization.from_dict(metadata["normalizer"]),
            mean_w=np.asarray(variables["buffers"]["mean_w"]),
            frontal_label25=label25,
            turned=turned_readings.from_dict(metadata["turned"]) if "turned" in metadata else None,
        )
    except (KeyError, TypeError, ValueError, errors.DataFormatError, errors.ConfigError) as error:
        lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise errors.WeightError(
            f"{mapping_file}: expected the header of a mapping network; {lacks.rstrip('.')}. Run "
            "--task=train_mapping again, or convert it again."
        ) from error


def load_generator(
    resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir
) -> dict[str, Any]:
    """Loads the averaged generator a run has exported.

    Args:
      resolved: The run's configuration.
      opened: The run.

    Returns:
      Generator variables.

    Raises:
      RunError: the GAN has not been trained.
      WeightError: the weights are damaged.
    """
    opened.require_stage("train_gan", task="train_gan")
    abstract = jax.eval_shape(lambda k: generator.init(k, resolved.generator), jax.random.key(0))
    return weights.load_network(stages.export_path(opened, weights.GENERATOR), abstract)


def frontal_label25(
    config: experiment_config.FrontalConfig,
    capture: Float[np.ndarray, "f 25"] | None = None,
) -> Float[np.ndarray, "25"]:
    """Makes the frontal camera of the mapping stage.

    Args:
      config: Pivot, and radius and intrinsics of the fixed camera.
      capture: Cameras the generator was trained with: the median of their distances from the
        world origin, and of each of their intrinsics, take the place of config's. None: fixed.

    Returns:
      The camera.

    Source: GAN-Avatar's released code (frontal sampling); the capture's median is ours.
    """
    if capture is None:
        cx, cy = config.principal_point
        radius, lens = config.radius, cameras.intrinsics(config.focal, cx=cx, cy=cy)
    else:
        radius = float(np.median(np.linalg.norm(capture[:, 3:12:4], axis=1)))
        lens = jnp.asarray(np.median(capture[:, 16:], axis=0).reshape(3, 3), jnp.float32)
    straight = jnp.asarray(jnp.pi / 2)
    pose = cameras.look_at(straight, straight, pivot=jnp.asarray(config.pivot), radius=radius)
    return np.asarray(cameras.to_label25(cameras.Camera(pose, lens)))
