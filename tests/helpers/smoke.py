"""The command that runs every stage with tiny networks, as the system tests give it."""

import pathlib


def command(repo_root: pathlib.Path, workdir: pathlib.Path, *options: str) -> list[str]:
    """Returns the arguments of `main`."""
    return [
        "main",
        f"--config={repo_root / 'configs' / 'quickstart.py'}:smoke",
        f"--workdir={workdir}",
        "--config.compile_cache=false",  # the tests have their own
        "--config.devices.cpu_virtual=0",  # and their own devices
        "--config.evaluation.lpips_vgg=true",
        # With the encoder, so that every phase runs.
        "--config.gan.reconstruct=true",
        "--config.frontal.latents=encoder",
        *options,
    ]
