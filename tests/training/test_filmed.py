"""No loss reaches pixels that were never filmed, in any phase."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.training import gan_step, loop, parallel, step_inputs
from helpers import compiled, tiny_gan

_IDS = np.arange(tiny_gan.BATCH, dtype=np.int32)


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


def _filmed():
    """Of each image some rows at the bottom are missing, of the first none."""
    rows = (
        np.arange(tiny_gan.SIDE)[None, :, None] < tiny_gan.SIDE - np.arange(16)[:, None, None] % 4
    )
    return np.where(np.broadcast_to(rows, (16, tiny_gan.SIDE, tiny_gan.SIDE)), 255, 0).astype(
        np.uint8
    )


def _batch(**changes):
    whole = tiny_gan.make_batch() | {"sample_id": _IDS} | changes
    return {name: jnp.asarray(value) for name, value in whole.items()}


@functools.cache
def _generate():
    g, step = tiny_gan.make_state().g, tiny_gan.step(jax.random.key(0))
    return jax.jit(lambda batch: step_inputs.generate(g, batch, step, encoder_variables={})[0])


def test_generated_images_are_white_where_the_frames_of_their_cameras_were_not_filmed():
    plain, masked = _generate()(_batch()), _generate()(_batch(gen_filmed=_filmed()))
    seen = _filmed() > 0
    for before, after in ((plain.image, masked.image), (plain.image_raw, masked.image_raw)):
        np.testing.assert_array_equal(np.asarray(after)[seen], np.asarray(before)[seen])
        assert (np.asarray(after)[~seen] == 1.0).all()  # white, as 255 is


def test_a_smaller_image_is_masked_as_a_shrunk_real_one_is():
    filmed = jnp.asarray(_filmed())
    real = jnp.where(filmed[..., None] > 0, jnp.full((1, 1, 1, 3), 0.3), 1.0)
    share = filmed[..., None] / 255.0
    small = step_inputs._whiten(jnp.full((16, 4, 4, 3), 0.3), share)
    np.testing.assert_allclose(
        small, jax.image.resize(real, (16, 4, 4, 3), "linear", antialias=True), atol=1e-6
    )


def test_no_gradient_of_the_critic_reaches_what_lies_beyond(monkeypatch):
    plain, state = step_inputs.generator.synthesize, tiny_gan.make_state()
    batch, step = _batch(gen_filmed=_filmed()), tiny_gan.step(jax.random.key(0))

    def loss(painted):
        def paint(*args, **options):
            out = plain(*args, **options)
            return dataclasses.replace(out, image=out.image + painted)

        monkeypatch.setattr(step_inputs.generator, "synthesize", paint)
        return gan_step.g_main(state, batch, step)[0]

    gradient = jax.jit(jax.grad(loss))(jnp.zeros((16, tiny_gan.SIDE, tiny_gan.SIDE, 3)))
    seen = _filmed() > 0
    assert not np.asarray(gradient)[~seen].any()
    assert np.asarray(gradient)[seen].any(axis=-1).mean() > 0.9


def test_the_loop_brings_masks_of_the_frames_whose_cameras_it_draws(monkeypatch):
    labels = tiny_gan.make_batch(7)["label25"]
    seen = {}

    def toy(state, batch, key, schedule, *, program, axis):
        del key, schedule, axis
        seen[program.phase] = set(batch)
        mark = jnp.mean(batch["gen_filmed"].astype(jnp.float32), axis=(1, 2))
        apart = jnp.max(
            jnp.abs(batch["gen_label25"][:, 3] - jnp.asarray(labels)[mark.astype(int), 3])
        )
        return state, {f"apart/{program.phase}": apart, "loss/d": jnp.mean(batch["filmed"] * 1.0)}

    monkeypatch.setattr(gan_step, "take_step", toy)
    options = tiny_gan.options(total_kimg=1.0)
    layout = parallel.make_layout("jit", jax.devices()[:1])

    def read_filmed(frames):
        marks = np.asarray(frames, np.uint8)[:, None, None]
        return np.broadcast_to(marks, (len(frames), 2, 2)).copy()

    runner = loop.Runner(options, layout, labels, read_filmed)
    frames = {
        "image": tiny_gan.make_batch()["image_u8"],
        "label25": labels,
        "filmed": _filmed(),
        "index": _IDS,
    }
    _, metrics = runner.iterate(layout.place_state(tiny_gan.make_state()), frames, 0)
    assert {name for name in metrics if name.startswith("apart/")} == {
        f"apart/{phase}" for phase in gan_step.phases_due(0, options)
    }
    assert all(float(v) == 0.0 for name, v in metrics.items() if name.startswith("apart/"))
    assert seen["d_main"] >= {"filmed", "gen_filmed"}
    plain = loop.Runner(options, layout, labels)
    monkeypatch.setattr(
        gan_step,
        "take_step",
        lambda state, batch, *_, program, axis: (seen.update(plain=set(batch)), (state, {}))[1],
    )
    del frames["filmed"]
    plain.iterate(layout.place_state(tiny_gan.make_state()), frames, 0)
    assert not seen["plain"] & {"filmed", "gen_filmed"}
