"""A snapshot of full size, with the reference's reproducible weights, through the command line.

`test_full_size.py` compares what these weights compute with the original's numbers; here they come
out of a snapshot bit for bit, within the memory that is promised, and start the paper-size config.
"""

import pathlib
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from ganavatar_jax.apps import command_line, experiment, weights
from ganavatar_jax.core import portable
from ganavatar_jax.models import generator, mapping
from helpers import full_size
from weight_port import eg3d_files, names_eg3d

pytestmark = pytest.mark.parity_full

_LARGEST_RATIO = 2.5  # of the process's memory to the file's size
_SCRIPT = textwrap.dedent("""
    import pathlib, re, sys, time
    from weight_port import convert
    start = time.process_time()
    code = convert.main(["--kind=eg3d", f"--src={sys.argv[1]}", f"--dst={sys.argv[2]}"])
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024
    print(code, peak, time.process_time() - start)
""")


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The folder of an import in a process of its own, its peak memory, and the file's size."""
    if not pathlib.Path("/proc/self/status").is_file():
        pytest.skip("the peak memory of a process can be read on Linux only")
    folder = tmp_path_factory.mktemp("full")
    source = folder / "network-snapshot.pkl"
    source.write_bytes(full_size.snapshot())
    size = source.stat().st_size
    arguments = [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(source), str(folder / "start")]
    root = pathlib.Path(__file__).parents[2]
    result = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=True)
    code, peak, seconds = result.stdout.splitlines()[-1].split()
    source.unlink()
    assert code == "0"
    print(f"{size / 1e6:.0f} MB, peak {int(peak) / size:.2f} times that, {seconds} s of CPU")
    return folder / "start", int(peak), size


def test_importing_takes_little_memory(imported):
    _, peak, size = imported
    assert size > 370e6
    assert peak <= _LARGEST_RATIO * size


@pytest.mark.parametrize(
    ("file", "kind", "network"),
    [
        (eg3d_files.GENERATOR, "generator", "G_ema"),
        (eg3d_files.DISCRIMINATOR, "discriminator", "D"),
    ],
)
def test_every_tensor_comes_out_bit_for_bit(imported, file, kind, network):
    variables, metadata = portable.load_params(imported[0] / file)
    extras = {key: np.asarray(value, np.float32) for key, value in metadata["extras"].items()}
    exported = names_eg3d.export_names(variables, kind=kind, extras=extras)
    expected = full_size.tensors(network)
    assert list(exported) == list(expected)
    for name, array in expected.items():
        assert exported[name].shape == array.shape, name
        assert exported[name].tobytes() == array.tobytes(), name


def test_the_folder_starts_the_paper_size_config(imported):
    config = command_line.load_config("configs/monocular.py:full")
    config.data.source = "captures/me"
    config.gan.init = str(imported[0])
    resolved = experiment.resolve(config)
    g, d, _ = weights.load_start(resolved.gan.init, resolved.generator, resolved.discriminator)
    assert d is not None
    # The reference's w of these weights, without the camera: every sample sees zeros.
    z = np.random.RandomState(7).randn(2, 512).astype(np.float32)
    cfg = resolved.generator
    w = jax.jit(lambda v, z, c: generator.map_latent(v, z, c, cfg))(g, z, full_size.labels())
    ws = mapping.truncate(
        generator.broadcast(w, cfg),
        g["buffers"]["backbone"]["mapping"]["w_avg"],
        psi=1.0,
        cutoff=14,
    )
    expected = (0.8700631, 1.0219147, -0.2247309, -0.1387340)
    np.testing.assert_allclose(ws[0, 0, :4], expected, atol=1e-5)
    np.testing.assert_allclose(np.mean(np.square(ws)), 1.0978960, rtol=1e-5)
