"""The mapping learns what codes say of w, on training pairs alone, and keeps their facts."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.apps import avatar, train_mapping
from ganavatar_jax.core import errors, portable
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.faces import normalization
from ganavatar_jax.models import expression_mapping, expression_mapping_config
from ganavatar_jax.runs import run_dir
from ganavatar_jax.training import mapping_config, mapping_step
from helpers import compiled, tiny_gan, tiny_runs

NAMES = ("unused", "jawOpen", "eyeBlinkLeft")
WANTED = ("eyeBlinkLeft", "jawOpen")
CENTRE, SPREAD = np.array([9.0, 0.4, 5.0]), np.array([3.0, 0.05, 2.0])
LABEL = tiny_runs.labels(np.zeros(1), radius=3.1)[0]
W = tiny_gan.GENERATOR.w_dim


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with compiled.quickly():
        yield


def make_pairs(count, seed):
    """Codes, and w that are linear in the wanted ones."""
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(count, 3))
    turn = np.random.default_rng(9).normal(size=(2, W)) * 0.3
    return {
        "image": rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        "w": (free[:, [2, 1]] @ turn + 0.7).astype(np.float32),
        "code": (CENTRE + SPREAD * free).astype(np.float32),
        "confidence": np.ones(count, np.float32),
        "seed": np.arange(count, dtype=np.int64),
    }


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Trains in a folder of its own; returns the run, the avatar and the file's metadata."""
    tiny_runs.without_earlier_stages(monkeypatch, train_mapping)
    monkeypatch.setattr(avatar.completeness, "check_avatar", lambda *_: None)
    monkeypatch.setattr(avatar, "load_generator", lambda *_: tiny_gan.make_state().g)

    def run(name="run", validation=None, **options):
        folder = tmp_path / name
        held_out = make_pairs(13, 1) if validation is None else validation
        expression_pairs.write_pairs(
            folder / "dataset",
            make_pairs(60, 0),
            held_out,
            names=NAMES,
            metadata={"label25": [float(v) for v in LABEL]},
        )
        opened = run_dir.RunDir(folder)
        options = {
            "coefficients": WANTED,
            "latent_steps": 400,
            "steps": 0,
            "batch_size": 8,
            "latent_lr": 1e-2,
            "code_noise": 0.0,
            "invert": False,
            "validate_every": 100,
        } | options
        resolved = tiny_runs.resolve(mapping=options)
        train_mapping.train(resolved, opened)
        path = folder / "checkpoints" / "export" / avatar.MAPPING_FILE
        return opened, avatar.load(resolved, opened), portable.read_metadata(path)

    return run


def select(codes):
    return codes[:, [2, 1]]


@pytest.mark.parametrize("normalization_kind", ["standardize", "pca", "none"])
def test_a_linear_relation_is_learnt_from_coefficients_chosen_by_name(train, normalization_kind):
    # Raw codes are far from zero: the network needs longer.
    steps = 2500 if normalization_kind == "none" else 400
    _, person, metadata = train(normalization=normalization_kind, latent_steps=steps)
    assert person.names == WANTED
    held_out = make_pairs(13, 1)
    w = person.encode(select(held_out["code"]))
    unexplained = np.abs(held_out["w"] - held_out["w"].mean(axis=0)).mean()
    assert np.abs(w - held_out["w"]).mean() < 0.3 * unexplained
    np.testing.assert_allclose(metadata["frontal_label25"], LABEL, atol=1e-6)


@pytest.mark.parametrize("normalization_kind", ["standardize", "pca", "none"])
def test_mean_and_spread_of_the_pairs_are_stored_whatever_the_map(train, normalization_kind):
    _, person, metadata = train(normalization=normalization_kind, latent_steps=1)
    codes = select(make_pairs(60, 0)["code"])
    mean = person.normalizer.require_statistics().mean
    np.testing.assert_allclose(mean, codes.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(person.neutral_code, np.percentile(codes, 25, axis=0), rtol=1e-5)
    np.testing.assert_allclose(person.code_std, codes.std(axis=0), rtol=1e-4)
    assert set(metadata["normalizer"]) >= {"code_mean", "code_std", "normalized_std"}
    # A driver of its own mean and spread becomes the pairs'.
    driver = (codes - codes.mean(axis=0)) * [0.1, 4.0] - 3.0
    restated = person.encode(driver, statistics=(driver.mean(axis=0), driver.std(axis=0)))
    np.testing.assert_allclose(restated, person.encode(codes), atol=1e-3)
    far = mean + 30 * person.code_std
    cut = person.normalizer.limit(np.asarray(person.normalizer.apply(far[None])), 3.0)
    edge = cut @ person.normalizer.backward + person.normalizer.mean
    np.testing.assert_allclose(person.encode(far[None]), person.encode(edge), atol=1e-4)
    within = np.abs((edge - mean) / person.code_std).max()
    assert within < 3.001 if normalization_kind != "pca" else within < 3.0 * np.sqrt(2) + 1e-3
    near = person.encode(codes[:1], limit=3.0)
    np.testing.assert_allclose(near, person.encode(codes[:1], limit=None), atol=1e-6)


def slopes(person, codes, w):
    """How far w moves along its own directions for what is asked."""
    spread = codes - codes.mean(axis=0)
    true = np.linalg.lstsq(spread, w - w.mean(axis=0), rcond=None)[0]
    asked = person.encode(codes, limit=None)
    told = np.linalg.lstsq(spread, asked - asked.mean(axis=0), rcond=None)[0]
    return np.sum(told * true, axis=1) / np.sum(true * true, axis=1)


def test_noisy_codes_are_answered_in_full_where_the_map_is_inverted(train, monkeypatch):
    clean, make = make_pairs(400, 3), make_pairs

    def noisy(count, seed):
        pairs = make(count, seed)
        noise = np.random.default_rng(seed + 50).normal(size=pairs["code"].shape)
        return pairs | {"code": (pairs["code"] + 0.8 * SPREAD * noise).astype(np.float32)}

    monkeypatch.setitem(globals(), "make_pairs", noisy)
    _, diluted, _ = train(name="a", latent_steps=600)
    _, inverted, _ = train(name="b", latent_steps=0, steps=1, lr=1e-9, invert=True)
    assert slopes(diluted, select(clean["code"]), clean["w"]).max() < 0.8
    found = slopes(inverted, select(clean["code"]), clean["w"])
    np.testing.assert_allclose(found, 1.0, atol=0.2)


def test_a_network_too_narrow_to_be_inverted_is_told(train):
    with pytest.raises(errors.ConfigError, match="invert: a network of 3 units.*network.width"):
        train(invert=True, network={"width": 3})


def test_every_held_out_pair_counts_once(train):
    opened, person, _ = train(latent_steps=30)
    held_out = make_pairs(13, 1)  # one batch of 8, and 5
    apart = np.abs(person.encode(select(held_out["code"]), limit=None) - held_out["w"]).mean()
    noted = opened.stage_done(train_mapping.STAGE)["validation"]
    np.testing.assert_allclose(noted["latent"], apart, rtol=1e-5)
    lines = [json.loads(line) for line in opened.metrics.read_text().splitlines()]
    assert lines[-1]["validation/latent"] == pytest.approx(noted["latent"])


def test_the_loss_falls_and_the_best_step_is_kept(train):
    opened, _, _ = train(latent_steps=300, latent_lr=1e-3, validate_every=50)
    lines = [json.loads(line) for line in opened.metrics.read_text().splitlines()]
    values = [line["validation/latent"] for line in lines if "validation/latent" in line]
    assert len(values) == 6
    assert values[-1] < 0.5 * values[0]
    assert opened.stage_done(train_mapping.STAGE)["validation"]["score"] == min(values)


def test_held_out_pairs_are_not_trained_on_and_a_rerun_is_the_same(train):
    other = make_pairs(13, 1)
    other["w"], other["code"] = other["w"] + 50.0, other["code"] * 3.0
    persons = [train(name="a")[1], train(name="b")[1]]
    persons += [train(name="c", validation=other, validate_every=1000)[1]]
    persons += [train(name="d", validate_every=1000)[1]]
    first, again, misled, last = (jax.tree.leaves(person.mapping) for person in persons)
    for one, two in [*zip(first, again, strict=True), *zip(misled, last, strict=True)]:
        np.testing.assert_array_equal(one, two)


def test_photometric_steps_render_the_camera_of_the_pairs(train, monkeypatch):
    seen = []
    synthesize = mapping_step.generator.synthesize

    def watched(g, ws, label25, config, **options):
        seen.append(label25.shape)
        return synthesize(g, ws, label25, config, **options)

    monkeypatch.setattr(mapping_step.generator, "synthesize", watched)
    opened, _, _ = train(latent_steps=2, steps=2, validate_every=2)
    noted = opened.stage_done(train_mapping.STAGE)["validation"]
    assert noted["score"] == noted["photometric"] > 0
    assert set(seen) == {(8, 25)}


@pytest.mark.parametrize(("kind", "expected"), [("none", SPREAD[[2, 1]]), ("pca", [1.0, 1.0])])
def test_noise_on_codes_is_in_their_spreads(train, monkeypatch, kind, expected):
    batches = []
    make_step = mapping_step.make_step

    def watched(*args, **options):
        optimizer, step = make_step(*args, **options)

        def stepped(params, opt_state, g, batch, key):
            batches.append(np.asarray(batch["code_spread"]))
            return step(params, opt_state, g, batch, key)

        return optimizer, stepped

    monkeypatch.setattr(mapping_step, "make_step", watched)
    train(normalization=kind, latent_steps=1)
    np.testing.assert_allclose(batches[0], expected, rtol=0.3)


def test_codes_without_spread_get_no_noise():
    config = mapping_config.MappingConfig(code_noise=1.0)
    params = expression_mapping.init(jax.random.key(0), config.network, code_dim=2, w_dim=W)
    optimizer, step = mapping_step.make_step(config, tiny_gan.GENERATOR, photometric=False)

    def stepped(spread, key):
        batch = {
            "code": jnp.ones((4, 2)),
            "w": jnp.ones((4, W)),
            "mean_w": jnp.zeros(W),
            "code_spread": jnp.full(2, spread),
        }
        return step(params, optimizer.init(params), {}, batch, jax.random.key(key))[2]["latent"]

    assert stepped(0.0, 0) == stepped(0.0, 1)
    assert stepped(1.0, 0) != stepped(1.0, 1)


def test_coefficients_that_were_not_read_are_refused(train):
    with pytest.raises(errors.ConfigError, match="got browDownLeft"):
        train(coefficients=("jawOpen", "browDownLeft"))
    with pytest.raises(errors.ConfigError, match="at most the 2 coefficients of the code; got 3"):
        train(name="b", normalization="pca", components=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 2}, 'number with normalization="pca"'),
        ({"latent_steps": 0, "steps": 0}, "one of them at least 1"),
        ({"steps": -1}, "must not be negative"),
        ({"code_noise": -0.1}, "code_noise"),
        (
            {
                "invert": True,
                "network": expression_mapping_config.ExpressionMappingConfig(hidden_layers=0),
            },
            "hidden layer",
        ),
    ],
)
def test_options_that_train_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mapping_config.MappingConfig(**options)


def test_a_map_of_raw_codes_from_before_knows_no_statistics(train):
    _, person, metadata = train(normalization="none", latent_steps=1)
    old = {k: metadata["normalizer"][k] for k in ("names", "mean", "forward", "backward")}
    assert normalization.from_dict(old).statistics is None
    with pytest.raises(errors.ConfigError, match='driver_statistics="pairs"'):
        normalization.from_dict(old).require_statistics()
