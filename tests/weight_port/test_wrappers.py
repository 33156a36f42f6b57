"""Whatever is saved around a network's numbers, the same numbers come out; what is not understood
is refused in one line that names what was expected and found."""

import io
import json
import os
import struct

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import strategies as st

from ganavatar_jax.apps import weights
from ganavatar_jax.core import portable, trees
from helpers import torch_files
from weight_port import convert, list_keys, weight_files

RNG = np.random.default_rng(0)
# Numbers that half precision holds, so that they are the same in every type.
MAPPING = {
    name: RNG.integers(-64, 64, shape).astype(np.float32) / 32
    for name, shape in {
        "network.0.weight": (8, 64),
        "network.0.bias": (8,),
        "network.1.weight": (8, 8),
        "network.1.bias": (8,),
        "output.weight": (16, 8),
        "output.bias": (16,),
    }.items()
}
EXTRAS = {"epoch": 3, "optimizer": {"state": {}, "lr": 0.1}, "config": {"name": "x"}}


def rounded(tensors):
    return {
        name: value
        if name.endswith("resample_filter")
        else np.asarray(np.rint(np.clip(value, -8, 8) * 32) / 32, np.float32)
        for name, value in tensors.items()
    }


def archive(tree):
    """Nested dicts of arrays as torch.save writes them."""
    arrays = {}

    def place(value):
        if isinstance(value, dict):
            return {key: place(part) for key, part in value.items()}
        if not isinstance(value, np.ndarray):
            return value
        flat = np.ascontiguousarray(value).reshape(-1)
        key = str(len(arrays))
        arrays[key] = flat
        return torch_files.tensor(value, storage=torch_files.storage_id(flat, key))

    value = place(tree)
    return value, arrays


def write(path, tree, form):
    if form == "safetensors":
        path.write_bytes(
            safetensors.numpy.save({k: np.array(v, order="C") for k, v in tree.items()})
        )
    elif form == "npz":
        stream = io.BytesIO()
        np.savez(stream, **tree)
        path.write_bytes(stream.getvalue())
    elif form == "pickle":
        path.write_bytes(torch_files.dumps(tree))
    else:
        path.write_bytes(getattr(torch_files, form)(*archive(tree)))
    return path


def run(kind, source, target, *options):
    return convert.main([f"--kind={kind}", f"--src={source}", f"--dst={target}", *options])


def numbers(path):
    variables, _ = portable.load_params(path)
    return {name: np.asarray(value).tobytes() for name, value in trees.flatten_names(variables)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    assert (
        run("mapping", write(folder / "a.pth", MAPPING, "archive"), folder / "a.safetensors") == 0
    )
    return numbers(folder / "a.safetensors")


@st.composite
def rewritings(draw):
    """A legal way to keep the mapping network: names, types, nesting, form of the file."""
    tensors = dict(draw(st.permutations(list(MAPPING.items()))))
    prefix = "".join(draw(st.lists(st.sampled_from(["module.", "_orig_mod."]), max_size=3)))
    inside = draw(st.sampled_from(["", "module.", "_orig_mod."]))
    tensors = {
        prefix + name.replace("network.", f"network.{inside}"): value.astype(
            draw(st.sampled_from([np.float16, np.float32, np.float64]))
        )
        for name, value in tensors.items()
    }
    form = draw(st.sampled_from(["archive", "stream", "pickle", "safetensors", "npz"]))
    if form in ("safetensors", "npz"):
        return tensors, form
    entry = draw(st.sampled_from(["", "state_dict", "model", "G_ema", "net", "module"]))
    extras = draw(st.lists(st.sampled_from(list(EXTRAS)), unique=True)) if entry else []
    return ({key: EXTRAS[key] for key in extras} | {entry: tensors}) if entry else tensors, form


def check_rewriting(case, plain, folder):
    source, target = folder / "w.bin", folder / "w.safetensors"
    target.unlink(missing_ok=True)
    assert run("mapping", write(source, *case), target) == 0
    assert numbers(target) == plain


settings = hypothesis.settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    database=None,
)


@hypothesis.settings(settings, max_examples=12)
@hypothesis.given(case=rewritings())
def test_a_network_is_the_same_however_it_is_kept(case, plain, tmp_path):
    check_rewriting(case, plain, tmp_path)


@pytest.mark.slow
@pytest.mark.captures
def test_a_network_is_the_same_in_hundreds_of_ways(plain, tmp_path):
    seed = int(os.environ.get("GANAVATAR_SEED", np.random.SeedSequence().entropy % 2**32))
    print(f"GANAVATAR_SEED={seed}")

    @hypothesis.seed(seed)
    @hypothesis.settings(settings, max_examples=300, derandomize=False)
    @hypothesis.given(case=rewritings())
    def check(case):
        check_rewriting(case, plain, tmp_path)

    check()


def without(*names):
    return {name: value for name, value in MAPPING.items() if name not in names}


DOUBLED = {**MAPPING, "module.output.bias": MAPPING["output.bias"]}
LARGE = {**MAPPING, "output.bias": np.full(16, 1e300)}
ILLEGAL = {
    "two": ({"a": MAPPING, "b": MAPPING}, "once; got it in 'a', 'b'. Keep one of them"),
    "both ways": (DOUBLED, "'output.bias' is there with and without a wrapper's prefix"),
    "too deep": ({"a": {"b": MAPPING}}, "expected the state dict of a mapping network (network.0"),
    "another prefix": ({f"net.{k}": v for k, v in MAPPING.items()}, "(6): 'net.network.0.weight'"),
    "a list": ([1, 2], "got a list"),
    "one is missing": (without("network.1.bias"), "missing (1): network.1.bias"),
    "one is more": ({**MAPPING, "extra": MAPPING["output.bias"]}, "unexpected (1): 'extra'"),
    "too large": (LARGE, "'output.bias' holds numbers beyond float32"),
    "whole numbers": (
        {**MAPPING, "output.bias": np.zeros(16, np.int64)},
        "output.bias (expected 16 float32, found 16 int64)",
    ),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_what_is_not_understood_names_what_was_expected_and_found(case, tmp_path, capsys):
    tree, message = ILLEGAL[case]
    target = tmp_path / "x.safetensors"
    assert run("mapping", write(tmp_path / "a.pth", tree, "archive"), target) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {tmp_path / 'a.pth'}: " in said
    assert message in said
    assert not target.exists()


def header(entries, data=b"", *, length=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


HOSTILE = {
    "empty": b"",
    "text": b"weights",
    "header too long": header({"a": entry()}, bytes(8), length=1 << 40),
    "cut": header({"a": entry()}, bytes(4)),
    "behind": header({"a": entry()}, bytes(12)),
    "no JSON": header(b"{no", bytes(8)),
    "deep": header(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", bytes(8)),
    "other type": header({"a": entry(dtype="F4")}, bytes(8)),
    "type of lists": header({"a": entry(shape=2)}, bytes(8)),
    "unhashable type": header({"a": entry(dtype=[])}, bytes(8)),
    "negative": header({"a": entry(shape=[-2])}, bytes(8)),
    "too large": header({"a": entry(shape=[2**40, 2**40])}, bytes(8)),
    "overlap": header({"a": entry(), "b": entry()}, bytes(8)),
    "notes": header({"__metadata__": {"a": 1}}, b""),
    "entry": header({"a": 7}, bytes(8)),
    "floats": header({"a": entry(data_offsets=[0.0, 8.0])}, bytes(8)),
}


@pytest.mark.attack
@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("kind", ["mapping", "deep3d", "eg3d"])
def test_hostile_files_are_refused_in_one_line(case, kind, tmp_path, capsys):
    source = tmp_path / "a.safetensors"
    source.write_bytes(HOSTILE[case])
    assert run(kind, source, tmp_path / "x.safetensors") == 2
    assert f"error: {source}: " in capsys.readouterr().err.splitlines()[-1]
    assert list_keys.main([str(source)]) in (0, 2)


def test_bfloat16_of_safetensors_is_read(tmp_path, capsys):
    data = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes(header({"a": entry(dtype="BF16", data_offsets=[0, 4])}, data))
    np.testing.assert_array_equal(weight_files.read(path).content["a"], [1.5, -2.0])


# EG3D ------------------------------------------------------------------------------------------

GENERATOR = rounded(torch_files.generator_tensors(3))
DISCRIMINATOR = rounded(torch_files.discriminator_tensors(2))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A start that was converted from a snapshot."""
    folder = tmp_path_factory.mktemp("start")
    networks = {
        "G_ema": torch_files.generator(GENERATOR),
        "D": torch_files.discriminator(DISCRIMINATOR),
    }
    (folder / "s.pkl").write_bytes(torch_files.snapshot(**networks))
    assert run("eg3d", folder / "s.pkl", folder / "start") == 0
    return folder / "start"


def halved(tensors):
    return {name: value.astype(np.float16) for name, value in tensors.items()}


def parallel(module):
    state = torch_files.module_state({}, {}, {"module": module}, {"device_ids": [0]})
    return torch_files.New(
        torch_files.Name("torch.nn.parallel.data_parallel", "DataParallel"), (), state
    )


MODULES = {
    "alone": lambda: {"G_ema": torch_files.generator(GENERATOR)},
    "bare": lambda: torch_files.generator(GENERATOR),
    "nested": lambda: {"epoch": 1, "model": {"G_ema": torch_files.generator(GENERATOR)}},
    "half": lambda: {"G_ema": torch_files.generator(halved(GENERATOR))},
    "parallel": lambda: {"G_ema": parallel(torch_files.generator(GENERATOR))},
}


@pytest.mark.parametrize("form", ["pickle", "stream"])
@pytest.mark.parametrize("case", MODULES)
def test_snapshots_may_hold_one_generator_in_many_ways(case, form, start, tmp_path):
    source = tmp_path / "s.bin"
    content = MODULES[case]()
    source.write_bytes(
        torch_files.dumps(content) if form == "pickle" else torch_files.stream(content, {})
    )
    assert run("eg3d", source, tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [weights.GENERATOR]
    assert numbers(tmp_path / "out" / weights.GENERATOR) == numbers(start / weights.GENERATOR)


def test_a_network_that_was_asked_for_must_be_there(tmp_path, capsys):
    (tmp_path / "s.pkl").write_bytes(torch_files.snapshot(G_ema=torch_files.generator(GENERATOR)))
    assert run("eg3d", tmp_path / "s.pkl", tmp_path / "x.safetensors", "--network=G") == 2
    assert "holds no network G; there are: G_ema" in capsys.readouterr().err
    (tmp_path / "d.pkl").write_bytes(
        torch_files.snapshot(D=torch_files.discriminator(DISCRIMINATOR))
    )
    assert run("eg3d", tmp_path / "d.pkl", tmp_path / "out") == 2
    assert "holds no network G_ema; there are: D" in capsys.readouterr().err


@pytest.mark.parametrize("name", [weights.GENERATOR, weights.DISCRIMINATOR])
def test_state_dicts_take_their_options_from_a_network_that_is_named(name, start, tmp_path, capsys):
    bare = GENERATOR if name == weights.GENERATOR else DISCRIMINATOR
    network = "G_ema" if name == weights.GENERATOR else "D"
    tree = {"epoch": 1, "model": {f"module.{n}": v.astype(np.float64) for n, v in bare.items()}}
    for number, (content, form) in enumerate(
        ((tree, "archive"), (bare, "safetensors"), (bare, "npz"), ({network: bare}, "stream"))
    ):
        source = write(tmp_path / f"{number}.bin", content, form)
        target = tmp_path / f"{number}.safetensors"
        assert run("eg3d", source, target, f"--network={network}") == 2
        assert "does not say its options" in capsys.readouterr().err
        assert run("eg3d", source, target, f"--network={network}", f"--like={start / name}") == 0
        assert numbers(target) == numbers(start / name)
        first, second = (portable.read_metadata(path) for path in (target, start / name))
        assert first["architecture"] == second["architecture"]


def test_options_of_another_network_are_refused(start, tmp_path, capsys):
    source, target = write(tmp_path / "g.npz", GENERATOR, "npz"), tmp_path / "x.safetensors"
    assert run("eg3d", source, target, f"--like={start / weights.DISCRIMINATOR}") == 2
    assert "does not fit" in capsys.readouterr().err
    assert run("eg3d", source, target, f"--like={tmp_path / 'gone.safetensors'}") == 2


def test_our_own_files_and_exports_come_back(start, tmp_path):
    for name, network in ((weights.GENERATOR, "G_ema"), (weights.DISCRIMINATOR, "D")):
        ours, theirs, back = start / name, tmp_path / f"e-{name}", tmp_path / f"b-{name}"
        assert run("eg3d", ours, theirs, "--export") == 0
        assert run("eg3d", theirs, back, f"--network={network}") == 0
        again = tmp_path / f"a-{name}"
        assert run("eg3d", ours, again, f"--network={network}") == 0
        for path in (back, again):
            assert numbers(path) == numbers(ours)
            metadata = portable.read_metadata(path)
            for key in ("architecture", "original", "extras"):
                assert metadata[key] == portable.read_metadata(ours)[key]


def test_a_mapping_of_ours_is_taken_as_it_is(plain, tmp_path):
    source = write(tmp_path / "a.pth", MAPPING, "archive")
    assert run("mapping", source, tmp_path / "a.safetensors", "--activation=relu") == 0
    assert run("mapping", tmp_path / "a.safetensors", tmp_path / "b.safetensors") == 0
    assert numbers(tmp_path / "b.safetensors") == plain
    metadata = portable.read_metadata(tmp_path / "b.safetensors")
    assert metadata["mapping"]["network"]["activation"] == "relu"
