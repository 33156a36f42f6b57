"""The PyTorch that we are compared with computes the same numbers from the same weights."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.losses import r1
from ganavatar_jax.models import discriminator, generator
from ganavatar_jax.training import recon_step
from helpers import tiny_gan

torch = pytest.importorskip("torch")

BATCH = 4


@pytest.fixture(scope="module")
def sides(repo_root, tmp_path_factory):
    """Weights and inputs of a tiny run, on both sides; no bias or noise strength is zero."""
    sys.path.insert(0, str(repo_root / "experiments"))
    try:
        import bench_parts
        import bench_stages
        from torch_baseline import stages
    finally:
        sys.path.pop(0)
    changes = {
        "generator.neural_resolution": 8,  # so that the super-resolution resizes
        "generator.decoder_lr_multiplier": 0.5,
        "discriminator.mbstd_block_size": 0,
        "gan.reconstruction.encoder.identity": "face",
    }
    config = bench_stages.read_config("tiny", BATCH, changes)
    shapes = jax.eval_shape(lambda: bench_stages.make_state(config))
    nets = {name: tiny_gan.fill(getattr(shapes, name), k) for k, name in enumerate("gde")}
    state = types.SimpleNamespace(**nets)
    path = tmp_path_factory.mktemp("torch") / "arrays.npz"
    bench_stages.export(str(path), config, BATCH, state)
    inputs = bench_parts.make_inputs(config, BATCH) | bench_parts.make_batch(config, BATCH)
    return config, state, jax.tree.map(jnp.asarray, inputs), stages.load(str(path))


@pytest.fixture(scope="module")
def ours(sides):
    """What our generator makes of the inputs."""
    config, state, inputs, _ = sides

    @jax.jit
    def make(variables):
        w = generator.map_latent(variables, inputs["z"], inputs["label25"], config.generator)
        ws = generator.broadcast(w, config.generator)
        return w, generator.synthesize(variables, ws, inputs["label25"], config.generator)

    return make(state.g)


def to_torch(image):
    return torch.from_numpy(np.asarray(image).transpose(0, 3, 1, 2).copy())


def agree(ours, theirs, limit=1e-4):
    theirs = theirs.detach().numpy()
    theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    assert np.max(np.abs(ours - theirs)) <= limit * max(1.0, np.std(ours))


@pytest.mark.parametrize("gradients", [False, True])
def test_the_generators_agree(sides, ours, gradients):
    g, inputs = sides[3].g, sides[3].inputs
    with torch.set_grad_enabled(gradients):  # without them convolutions take another form
        w = g.map(inputs["z"], inputs["label25"])
        image, raw = g(g.broadcast(w), inputs["label25"])
    agree(ours[0], w)
    agree(ours[1].image_raw, raw)
    agree(ours[1].image, image)
    assert np.std(ours[1].image) > 0.1


def test_the_discriminators_and_their_r1_agree(sides):
    config, state, inputs, torch_side = sides
    images, label = [inputs[name] for name in ("image", "image_raw")], inputs["label25"]

    @jax.jit
    def judge(variables, *images):
        def logits(image, raw):
            return discriminator.apply(variables, image, raw, label, config.discriminator)

        return logits(*images), r1.r1_penalty(logits, *images)

    ours, penalty = judge(state.d, *images)
    theirs = [to_torch(x).requires_grad_() for x in images]
    logits = torch_side.d(*theirs, torch_side.inputs["label25"])
    agree(ours, logits)
    slopes = torch.autograd.grad(logits.sum(), theirs)
    scale = float(np.mean(penalty))
    agree(penalty / scale, sum(s.square().sum((1, 2, 3)) for s in slopes) / scale)


@pytest.mark.slow
def test_the_comparison_with_training_images_agrees(sides):
    config, _, inputs, torch_side = sides
    options = torch_side.sizes["gan"]["reconstruction"]
    none = jnp.zeros(inputs["image_raw"].shape[:3])
    out = generator.GeneratorOutput(inputs["image"], inputs["image_raw"], depth=none, opacity=none)
    program = sys.modules["bench_stages"].make_program("recon", config, devices=1)
    compare = jax.jit(
        lambda out: recon_step._compare(out, inputs, config.gan.reconstruction, program)
    )
    ours, _ = compare(out)
    trainer = torch_side.trainer()
    shown = [to_torch(inputs[name]) for name in ("image", "image_raw")]
    theirs = sys.modules["torch_baseline.reconstruction"].compare(
        shown, trainer._real()[0], trainer.batch["label25"], options, trainer.lpips
    )
    agree(ours, theirs)


@pytest.mark.parametrize("phase", ["recon", "g_main", "g_reg", "d_main", "d_reg"])
def test_every_phase_takes_a_step(sides, phase):
    trainer = sides[3].trainer()
    network = trainer.d if phase.startswith("d_") else trainer.g
    before = [p.detach().clone() for p in network.parameters()]
    loss = getattr(trainer, phase)()
    assert torch.isfinite(loss)
    moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert any(moved)
