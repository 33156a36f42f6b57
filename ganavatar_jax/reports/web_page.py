"""One HTML file from the small modules in ganavatar_jax/web: no bundler, no server, no requests."""

import base64
import gzip
import html
import importlib.resources
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

_START = "main.js"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.M)
_EXPORT = re.compile(r"^export (?=(?:async |)(?:function|class|const)\b)", re.M)
_LEVEL = 6


def pack(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Packs what the page carries.

    Args:
      tensors: Arrays of float32, float16, int8 or uint8.
      metadata: Texts.

    Returns:
      Base64 of gzip of a safetensors file.
    """
    stored = safetensors.numpy.save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, dict(metadata)
    )
    return base64.b64encode(gzip.compress(stored, _LEVEL, mtime=0)).decode()


def packed_size(tensor: np.ndarray) -> int:
    """Tells how long a tensor becomes in the page.

    Args:
      tensor: An array.

    Returns:
      Bytes.
    """
    return len(gzip.compress(np.ascontiguousarray(tensor).tobytes(), _LEVEL)) * 4 // 3


def assemble(data: str, *, title: str, script_address: str = "") -> str:
    """Puts the page together.

    Args:
      data: What `pack` returned.
      title: Name of the avatar.
      script_address: A script that reads the webcam, and the only address that the page may ask;
        empty lets it ask none.

    Returns:
      The file's content.
    """
    parts = {
        "title": html.escape(title),
        "policy": html.escape(_policy(script_address)),
        "style": _read("page.css"),
        "vertex": _read("field.vert"),
        "fragment": _read("field.frag"),
        "show": _read("show.frag"),
        "script": _join_modules(),
        "data": data,
    }
    return re.sub(r"\{(\w+)\}", lambda match: parts[match[1]], _read("page.html"))


def _policy(script_address: str) -> str:
    """Writes what the browser is to refuse: by default every request."""
    found = urllib.parse.urlsplit(script_address)
    host = f" {found.scheme}://{found.netloc}" if found.netloc else ""
    rules = {
        "default-src": " 'none'",
        "script-src": f" 'unsafe-inline' 'wasm-unsafe-eval' blob:{host}",
        "style-src": " 'unsafe-inline'",
        "img-src": " data: blob:",
        "media-src": " blob: mediastream:",
        "worker-src": f" blob:{host}",
        "connect-src": host or " 'none'",
    }
    return "; ".join(f"{name}{values}" for name, values in rules.items())


def _join_modules() -> str:
    """Joins the modules, each after those it imports, as one script."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for imported in _IMPORT.findall(_read(name)):
                visit(imported)
            order.append(name)

    visit(_START)
    texts = [_EXPORT.sub("", _IMPORT.sub("", _read(name))).strip() for name in order]
    return '(() => {\n"use strict";\n' + "\n\n".join(texts) + "\n})();"


def _read(name: str) -> str:
    return (importlib.resources.files("ganavatar_jax") / "web" / name).read_text("utf-8")


def texels(planes: np.ndarray) -> np.ndarray:
    """Lays planes out as the texels that the page uploads.

    Args:
      planes: Feature planes, [*k p h w c].

    Returns:
      [*k layers h+2 w+2 4]: four channels a layer, those of plane 0 first, in a border of zeros.
    """
    *lead, count, height, width, channels = planes.shape
    groups = -(-channels // 4)
    border = [(0, 0)] * len(lead) + [(0, 0), (1, 1), (1, 1), (0, 4 * groups - channels)]
    padded = np.pad(planes, border).reshape(*lead, count, height + 2, width + 2, groups, 4)
    moved = np.moveaxis(padded, -2, -4)
    return moved.reshape(*lead, count * groups, height + 2, width + 2, 4)


def decoder_block(layers: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    """Lays the decoder out as the uniform block of field.frag.

    Args:
      layers: "first" and "second", weight [i o] and bias [o] each, gains applied; of the second
        layer density, red, green and blue.

    Returns:
      The block, and the number of groups of four hidden units.
    """
    first, first_bias = layers["first"]
    second, second_bias = layers["second"]
    inputs, hidden = (-(-size // 4) * 4 for size in first.shape)
    first = np.pad(first, ((0, inputs - first.shape[0]), (0, hidden - first.shape[1])))
    second = np.pad(second, ((0, hidden - second.shape[0]), (0, 0)))
    # A mat4 is stored column by column; a column holds what one input adds to four outputs.
    blocks = first.reshape(inputs // 4, 4, hidden // 4, 4).transpose(2, 0, 1, 3)
    parts = (blocks, np.pad(first_bias, (0, hidden - len(first_bias))), second, second_bias)
    block = np.concatenate([np.asarray(part, np.float32).ravel() for part in parts])
    return block, hidden // 4
