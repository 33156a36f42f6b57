"""The PyTorch side of `bench.py`: runs stages when told to, and says what each has cost.

PYTHON experiments/torch_baseline/stages.py '{"cores": 1, "arrays": FILE}'

FILE is what `bench_stages.py` exported: weights, inputs and sizes. Lines of JSON come in,
{"stage": name}, and go out. Needs torch and NumPy, nothing of `ganavatar_jax`.
"""

import functools
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from torch_baseline import discriminator, generator, perceptual, phases, renderer  # noqa: E402

Call = Callable[[], Any]
PHASES = ("recon", "g_main", "g_reg", "d_main", "d_reg")


def to_torch(name: str, array: np.ndarray) -> Tensor:
    """Reorders an array from channels last: HWIO, [in, out], HWC."""
    if name.endswith("b4.fc.weight"):  # its input is a flattened 4 x 4 image
        array = array.reshape(4, 4, -1, array.shape[-1]).transpose(3, 2, 0, 1)
        array = array.reshape(len(array), -1)
    elif name.endswith("b4.const"):
        array = array.transpose(2, 0, 1)
    elif array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2 and name.endswith("weight"):
        array = array.T
    return torch.from_numpy(np.ascontiguousarray(array))


def load(path: str) -> "Exported":
    """Reads an exported file."""
    with np.load(path) as archive:
        return Exported({name: archive[name] for name in archive.files})


class Exported:
    """Networks and inputs of an exported file."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays, self.sizes = arrays, json.loads(str(arrays["sizes"]))
        self.g = generator.Generator(self.sizes["generator"])
        self.d = discriminator.Discriminator(self.sizes["discriminator"])
        for name, network in (("g", self.g), ("d", self.d)):
            network.load_state_dict(self._weights(name), strict=True)
            network.to(memory_format=torch.channels_last)
        self.inputs = {k: torch.from_numpy(v) for k, v in self._cut("inputs.").items()}

    def _cut(self, prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}

    def _weights(self, name: str) -> dict[str, Tensor]:
        found = {}
        for collection in ("params", "buffers"):
            for key, array in self._cut(f"weights.{name}.{collection}.").items():
                noise_map = key.endswith("noise_const")
                found[key] = torch.from_numpy(array) if noise_map else to_torch(key, array)
        return found

    def lpips(self) -> perceptual.Lpips:
        """Makes LPIPS."""
        parts = []
        for kind in ("kernels", "biases", "heads"):
            found = self._cut(f"lpips.{kind}.")
            parts.append([to_torch(kind, found[str(i)]) for i in range(len(found))])
        return perceptual.Lpips(*parts)

    def trainer(self) -> phases.Trainer:
        """Makes what takes the steps of phases."""
        reader = {k: torch.from_numpy(v) for k, v in self._cut("weights.e.buffers.reader.").items()}
        reader |= {k: self.inputs[f"patch_{k}"] for k in ("points", "normals")}
        batch = {k: v for k, v in self.inputs.items() if k.endswith(("label25", "image_u8"))}
        return phases.Trainer(
            self.g, self.d, self.sizes["gan"], batch, lpips=self.lpips(), reader=reader
        )


def images(x: Tensor) -> Tensor:
    """Turns NHWC to NCHW; memory stays channels last."""
    return x.permute(0, 3, 1, 2)


def make_part(name: str, it: Exported) -> tuple[Callable[..., Any], list[Tensor], nn.Module | None]:
    """Returns a part of a network as a function of its inputs, the inputs, and its weights."""
    g, inputs = it.g, it.inputs
    label = inputs["label25"]
    ws = g.broadcast(inputs["w"]).contiguous()
    planes = inputs["planes"].permute(0, 1, 4, 2, 3)
    options = it.sizes["generator"]["render"]
    look_up = functools.partial(renderer.look_up, points=inputs["points"], options=options)
    features = images(inputs["features"])
    pictures = [images(inputs[k]) for k in ("image", "image_raw")]
    if name == "query":
        return lambda planes: g.decoder(look_up(planes)), [planes], g.decoder
    if name == "renderer":
        return lambda planes: g.render(planes, label, random=False), [planes], g.decoder
    if name == "discriminator":
        return lambda image, raw: it.d(image, raw, label), pictures, it.d
    if name == "lpips":
        target = images(inputs["target"])
        lpips = it.lpips()
        return lambda image: lpips(image, target), pictures[:1], None
    table: dict[str, tuple[Callable[..., Any], list[Tensor], nn.Module | None]] = {
        "mapping": (lambda z: g.map(z, label), [inputs["z"]], g.backbone.mapping),
        "backbone": (lambda ws: g.planes(ws, "const"), [ws], g.backbone.synthesis),
        "sampling": (look_up, [planes], None),
        "decoder": (g.decoder, [inputs["point_features"]], g.decoder),
        "superresolution": (
            lambda x: g.enlarge(x, ws),
            [features],
            getattr(g, "superresolution", None),
        ),
        "generator": (lambda ws: g(ws, label)[0], [ws], g),
    }
    return table[name]


def make_call(name: str, it: Exported) -> Call:
    """Makes a stage that can be run."""
    if name in PHASES:
        return getattr(it.trainer(), name)
    function, arguments, network = make_part(name.removesuffix("_gradient"), it)
    if not name.endswith("_gradient"):

        def forward() -> Any:
            with torch.inference_mode():
                return function(*arguments)

        return forward
    for x in arguments:
        x.requires_grad_()
    wanted = [*arguments, *(network.parameters() if network is not None else ())]

    def backward() -> Any:
        out = function(*arguments)
        outs = out if isinstance(out, tuple) else (out,)
        loss = sum(x.sin().sum() for x in outs)
        return torch.autograd.grad(loss, wanted, allow_unused=True)

    return backward


def measure(call: Call) -> dict[str, float]:
    """Runs a call and says its wall time, CPU time in programs and in the system, and faults."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    call()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall": wall,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "faults": after.ru_minflt - before.ru_minflt,
        "peak_mib": after.ru_maxrss / 1024,
    }


def main() -> None:
    """Answers the lines that come in until there are no more."""
    setting = json.loads(sys.argv[1])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-setting["cores"] :])
    torch.set_num_threads(setting["cores"])
    torch.manual_seed(0)
    exported = load(setting["arrays"])
    made: tuple[str, Call] | None = None
    first: dict[str, float] = {}
    for line in sys.stdin:
        name = json.loads(line)["stage"]
        if made is None or made[0] != name:
            made = (name, make_call(name, exported))
        if name not in first:
            first[name] = measure(made[1])["wall"]
            measure(made[1])
        print(json.dumps(measure(made[1]) | {"first": first[name]}), flush=True)


if __name__ == "__main__":
    main()
