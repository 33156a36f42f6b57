"""Task train_gan: fine-tunes (or trains) the generator on the run's dataset."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ganavatar_jax.apps import (
    completeness,
    earlier_training,
    experiment,
    experiment_config,
    prepare_data,
    weights,
)
from ganavatar_jax.core import errors, files, images, rng
from ganavatar_jax.data import frame_table
from ganavatar_jax.geometry import cameras
from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import discriminator, encoder, face_reader, generator
from ganavatar_jax.reports import media
from ganavatar_jax.runs import divergence, environment, progress, run_dir, together
from ganavatar_jax.training import loop, parallel, recon_step, state, unseen

STAGE = loop.STAGE
_FRAMES_PER_ENTRY = 4  # fewer frames fit a reading of faces to chance
_SAMPLE_COLUMNS = 8
_SAMPLE_YAWS_DEG = (0.0, -45.0, 60.0, 180.0)  # rows of a sample picture


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Trains until gan.total_kimg, from the newest checkpoint if there is one.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: the dataset has not been prepared.

    Source: GAN-Avatar (Kabadayi et al. 2024), section on personalisation.
    """
    with experiment.hold_run(config, workdir, shared=True) as (resolved, opened):
        train(resolved, opened)


def export_folder(opened: run_dir.RunDir) -> pathlib.Path:
    """Returns where the run's final networks are.

    Args:
      opened: The run.

    Returns:
      The folder, in the layout that gan.init takes.
    """
    return opened.folder("checkpoints", "export")


def lay_out(resolved: experiment_config.ExperimentConfig) -> parallel.Layout:
    """Lays the training out over all devices.

    Args:
      resolved: The configuration.

    Returns:
      The layout.

    Raises:
      ConfigError: the batch cannot be shared out to the devices.
    """
    layout = parallel.make_layout(resolved.parallel)
    resolved.gan_step.check_devices(layout.mesh.size, layout.backend)
    return layout


def train(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> None:
    """Trains the GAN and exports its networks.

    Args:
      resolved: The configuration.
      opened: The run.

    Raises:
      ConfigError: the batch cannot be shared out to the devices.
      RunError: the dataset has not been prepared, or no longer stands.
      WeightError: the starting weights do not fit.

    Source: GAN-Avatar (Kabadayi et al. 2024); EG3D (Chan et al. 2022).
    """
    begun = completeness.begin(STAGE, resolved, opened)
    verdict = completeness.judge(STAGE, resolved, opened)
    if together.tell(verdict.stands):
        if opened.primary:
            print(f"{STAGE}: complete")
        return
    layout = lay_out(resolved)
    earlier_training.settle(begun, verdict, opened)
    gan, table = resolved.gan, _load_frames(resolved, opened)
    batches = _batches(resolved, table)
    labels = table.label25
    if resolved.data.mirror:
        labels = np.concatenate([labels, np.asarray(cameras.mirror_label25(labels))])
    start = _load_start(resolved)
    encoder_variables = _make_encoder(resolved, start, table) if gan.reconstruct else None
    outputs = _lay_outputs(resolved, opened)
    final = loop.train(
        _initial(resolved, start, encoder_variables),
        batches,
        labels,
        options=resolved.gan_step,
        layout=layout,
        outputs=dataclasses.replace(
            outputs,
            draw_samples=_sample_drawer(resolved, opened, table),
            facts=earlier_training.note(begun),
        ),
        read_filmed=None
        if table.filmed is None
        else functools.partial(frame_table.read_filmed, table),
        views=_views(resolved, opened, start, encoder_variables, table),
    )
    if opened.primary:
        _export(resolved, opened, final)
    info = {"kimg": gan.iterations * gan.batch_size / 1000, "frames": len(table.frame_id)}
    completeness.finish(begun, resolved, opened, info)


def _lay_outputs(
    resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir
) -> loop.Outputs:
    """Says where results go, but for sample pictures."""
    events = opened.folder("tensorboard", "gan")
    return loop.Outputs(
        checkpoints=opened.folder("checkpoints", "gan"),
        writer_options={
            "path": opened.metrics,
            "tensorboard_dir": events if resolved.tensorboard else None,
            "wandb": resolved.wandb,
            "primary": opened.primary,
        },
        draw_samples=lambda state, kimg: {},
        saved=opened.copy,
        profile=events if resolved.gan.profile_iterations else None,
    )


def _load_frames(
    resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir
) -> frame_table.FrameTable:
    return frame_table.load_split(
        prepare_data.dataset_folder(opened),
        "train",
        cache_limit_mb=resolved.data.cache_limit_mb,
        skip_damaged=resolved.data.skip_damaged,
    )


def _batches(
    resolved: experiment_config.ExperimentConfig, table: frame_table.FrameTable
) -> loop.Batches:
    """Starts this process's stream of batches."""
    gan = resolved.gan
    return frame_table.make_batches(
        table,
        batch_size=gan.batch_size,
        seed=gan.seed,
        mirror=resolved.data.mirror,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        skip_damaged=resolved.data.skip_damaged,
    )


def _export(
    resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir, final: state.GanState
) -> None:
    gan = resolved.gan
    trained_d = not gan.reconstruct or not gan.reconstruction.is_alone(gan.iterations - 1)
    weights.save_networks(
        export_folder(opened),
        final.g_ema,
        final.d if trained_d else None,
        g_config=resolved.generator,
        d_config=resolved.discriminator,
        e=final.e or None,
        e_config=resolved.gan.reconstruction.encoder,
        provenance=provenance(resolved),
    )


def _load_start(resolved: experiment_config.ExperimentConfig) -> weights.Start | None:
    gan = resolved.gan
    if not gan.init:
        return None
    return weights.load_start(
        gan.init,
        resolved.generator,
        resolved.discriminator,
        e=gan.reconstruction.encoder if gan.reconstruct else None,
    )


def _views(
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
    start: weights.Start | None,
    e: dict[str, Any] | None,
    table: frame_table.FrameTable,
) -> unseen.Views | None:
    """Makes the pictures of what was never seen, or takes those that this run has made."""
    gan, g = resolved.gan, resolved.generator
    if not gan.reconstruction.unseen_interval or not gan.reconstruct:
        return None
    if start is None or start.e is None or e is None or not start.e["buffers"].get("reader"):
        print(f"{STAGE}: gan.init names no start that reads faces; unseen sides are not filled in")
        return None
    rows = unseen.spread_frames(len(table.frame_id))
    image_u8, label25 = table.image[rows], table.label25[rows]
    made_from = hashlib.sha256(image_u8.tobytes() + table.label25.tobytes())
    made_from.update(f"{gan.init} {gan.seed} {gan.reconstruction.unseen_count}".encode())
    path = opened.folder("checkpoints") / "unseen.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["made_from"]) == made_from.hexdigest():
                return unseen.Views(stored["image_u8"], stored["label25"])
    cameras25 = unseen.choose_cameras(
        table.label25, count=gan.reconstruction.unseen_count, seed=gan.seed
    )
    if not len(cameras25):
        return None
    print(f"{STAGE}: looking for this person in {gan.init}, to fill in what was not seen")
    shown = images.from_u8(jnp.asarray(image_u8))
    told = face_reader.read(start.e["buffers"]["reader"], shown, jnp.asarray(label25))
    size = gan.reconstruction.encoder.face_dim
    z = jnp.concatenate([jnp.mean(told, axis=0)[:size], e["buffers"]["identity"]])
    net = lpips.load_params("alex") if gan.reconstruction.lpips_weight else None
    with progress.Progress(unseen.STEPS, unit="step", title="find person", every_s=10) as bar:
        w = unseen.find_person(
            start.g,
            z,
            image_u8,
            label25,
            g,
            seed=gan.seed,
            lpips_params=net,
            progress=lambda done, _: bar.update(done - bar.done),
        )
        bar.update(unseen.STEPS - bar.done)
    views = unseen.imagine(start.g, w, cameras25, g)
    if opened.primary:
        with files.atomic_path(path) as temporary:
            np.savez(temporary, **views._asdict(), made_from=made_from.hexdigest())
        sheet = media.tile_sheet(views.image_u8[: 4 * _SAMPLE_COLUMNS], columns=_SAMPLE_COLUMNS)
        media.save_png(opened.folder("samples", "gan") / "unseen.png", sheet)
    return views


def _initial(
    resolved: experiment_config.ExperimentConfig,
    start: weights.Start | None,
    e: dict[str, Any] | None,
) -> Callable[[], state.GanState]:
    """Makes the state of a fresh start; may run under eval_shape."""
    gan = resolved.gan
    options = {"e": e, "recon_adam": gan.reconstruction.adam, "augment_p": gan.augment_p}
    adams = gan.g_adam, gan.d_adam

    def make() -> state.GanState:
        key = jax.random.key(gan.seed)
        if start is None:
            return state.make_state(
                key, resolved.generator, resolved.discriminator, *adams, **options
            )
        d = start.d or discriminator.init(rng.stream(key, "init.d"), resolved.discriminator)
        return state.from_networks(start.g, d, start.g, *adams, **options)

    return make


def _make_encoder(
    resolved: experiment_config.ExperimentConfig,
    start: weights.Start | None,
    table: frame_table.FrameTable,
) -> dict[str, Any]:
    """Makes the encoder and fits its reading of faces to this person's frames."""
    gan, z_dim = resolved.gan, resolved.generator.z_dim
    config = gan.reconstruction.encoder
    if config.face_dim >= z_dim:
        raise errors.ConfigError(
            f"gan.reconstruction.encoder.face_dim must be below generator.z_dim; got "
            f"{config.face_dim} and {z_dim}."
        )
    probes = recon_step.probe_sizes(gan.reconstruction)
    e = state.make_encoder(jax.random.key(gan.seed), config, resolved.generator, probes=probes)
    trained = start.e if start is not None else None
    e = {**e, **(trained or {})}
    codes = None
    if config.face_fit == "codes" and trained is None:
        if table.expression is None or not table.has_expression.all():
            raise errors.DataFormatError(
                f"{resolved.data.source}: gan.reconstruction.encoder.face_fit=codes needs an "
                "expression code for every training frame; got none for some. Set it to pixels."
            )
        codes = table.expression
    fresh = config.read_dim(z_dim) - (config.face_dim if trained is not None else 0)
    if len(table.image) < _FRAMES_PER_ENTRY * fresh:
        raise errors.DataFormatError(
            f"{resolved.data.source}: reading {fresh} numbers off faces "
            "(gan.reconstruction.encoder.face_dim, identity) needs at least "
            f"{_FRAMES_PER_ENTRY * fresh} training frames; got {len(table.image)}. Add frames, or "
            'set gan.reconstruction.encoder.identity="mean".'
        )
    return encoder.settle(
        e, config, table.image, table.label25, z_dim=z_dim, codes=codes, fitted=trained is not None
    )


def _sample_drawer(
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
    table: frame_table.FrameTable,
):
    """Draws the same latents from the same sides each time, so that progress is seen."""
    g_config = resolved.generator
    # A fixed latent a column, a fixed camera a row.
    z = jax.random.normal(jax.random.key(0), (_SAMPLE_COLUMNS, g_config.z_dim))
    reference = cameras.from_label25(jnp.asarray(table.label25))
    radius = float(jnp.median(jnp.linalg.norm(reference.cam2world[:, :3, 3], axis=-1)))
    intrinsics = jnp.median(reference.intrinsics, axis=0)
    rows = [
        cameras.to_label25(
            cameras.Camera(
                cameras.look_at(jnp.pi / 2 - jnp.deg2rad(yaw), jnp.pi / 2, radius=radius),
                intrinsics,
            )
        )
        for yaw in _SAMPLE_YAWS_DEG
    ]

    @jax.jit
    def draw(g: dict, label25: jax.Array) -> jax.Array:
        label = jnp.broadcast_to(label25[None], (_SAMPLE_COLUMNS, 25))
        ws = generator.broadcast(generator.map_latent(g, z, label, g_config), g_config)
        return generator.synthesize(g, ws, label, g_config).image

    spread = _spread_measure(g_config.img_resolution)

    def draw_samples(current: state.GanState, kimg: float) -> dict[str, float]:
        g = jax.tree.map(np.asarray, current.g_ema)
        tiles = np.concatenate([images.to_u8(draw(g, row)) for row in rows])
        if opened.primary:
            name = f"{round(kimg * 1000):08d}_images.png"
            grid = media.tile_sheet(tiles, columns=_SAMPLE_COLUMNS)
            media.save_png(opened.folder("samples", "gan") / name, grid)
        return {divergence.GanWatch.SPREAD: spread(tiles[:_SAMPLE_COLUMNS])}

    return draw_samples


def _spread_measure(side: int) -> Callable[[np.ndarray], float]:
    """Makes what measures how far samples are from each other: LPIPS, or pixels where too small."""
    if side < lpips.MIN_SIDE_PX:
        return lambda tiles: float(np.mean(np.std(tiles / 127.5, axis=0)))
    params = lpips.load_params("alex")

    @jax.jit
    def measure(tiles: jax.Array) -> jax.Array:
        features = lpips.unit_features(params, images.from_u8(tiles), net="alex")
        rows = [
            lpips.distance(params, tuple(f[i : i + 1] for f in features), features)
            for i in range(len(tiles))
        ]
        return jnp.sum(jnp.stack(rows)) / (len(rows) * (len(rows) - 1))  # without itself: 0

    return lambda tiles: float(measure(tiles))


def provenance(resolved: experiment_config.ExperimentConfig) -> dict[str, object]:
    """Describes how a run's networks were made.

    Args:
      resolved: The configuration.

    Returns:
      JSON-serialisable facts.
    """
    return {
        "commit": environment.describe_commit(),
        "gan": dataclasses.asdict(resolved.gan),
        "data": resolved.data.source,
    }
