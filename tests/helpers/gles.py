"""OpenGL ES 3 without a window or a browser, by ctypes and Mesa: runs the shaders of the page.

WebGL2 is OpenGL ES 3.0, so that what this compiles and draws is what a browser does.
"""

import contextlib
import ctypes
import ctypes.util
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_SURFACELESS, _ES_API, _ES3_BIT = 0x31DD, 0x30A0, 0x40
_TRIANGLES, _FLOAT, _U8, _RGBA, _RED = 4, 0x1406, 0x1401, 0x1908, 0x1903
_RGBA16F, _RGBA8, _R8 = 0x881A, 0x8058, 0x8229
_TEXTURE_2D, _TEXTURE_3D, _TEXTURE_2D_ARRAY, _TEXTURE0 = 0xDE1, 0x806F, 0x8C1A, 0x84C0
_MIN, _MAG, _WRAPS = 0x2801, 0x2800, (0x2802, 0x2803, 0x8072)
_NEAREST, _LINEAR, _CLAMP = 0x2600, 0x2601, 0x812F
_FRAMEBUFFER, _COLOR0, _UNIFORM_BUFFER, _STATIC_DRAW = 0x8D40, 0x8CE0, 0x8A11, 0x88E4
_VERTEX, _FRAGMENT, _COMPILED, _LINKED = 0x8B31, 0x8B30, 0x8B81, 0x8B82


@contextlib.contextmanager
def context() -> Iterator[Any]:
    """Makes a context current without a surface; yields the GL library."""
    found = ctypes.util.find_library("EGL") and ctypes.util.find_library("GLESv2")
    assert found, "OpenGL ES is missing: apt install libegl1 libgles2 libgl1-mesa-dri"
    egl, pointer = ctypes.CDLL("libEGL.so.1"), ctypes.c_void_p
    egl.eglGetPlatformDisplay.restype = egl.eglCreateContext.restype = pointer
    display = pointer(egl.eglGetPlatformDisplay(_SURFACELESS, pointer(0), None))
    assert egl.eglInitialize(display, None, None), "EGL does not start"
    assert egl.eglBindAPI(_ES_API)
    wanted = (ctypes.c_int * 3)(0x3040, _ES3_BIT, 0x3038)
    config, count = pointer(), ctypes.c_int()
    assert egl.eglChooseConfig(display, wanted, ctypes.byref(config), 1, ctypes.byref(count))
    version = (ctypes.c_int * 3)(0x3098, 3, 0x3038)
    made = pointer(egl.eglCreateContext(display, config, pointer(0), version))
    assert egl.eglMakeCurrent(display, pointer(0), pointer(0), made), "no context"
    try:
        yield ctypes.CDLL("libGLESv2.so.2")
    finally:
        egl.eglMakeCurrent(display, pointer(0), pointer(0), pointer(0))
        egl.eglDestroyContext(display, made)
        egl.eglTerminate(display)


def draw(
    vertex: str,
    fragment: str,
    *,
    planes: np.ndarray,
    occupancy: np.ndarray,
    decoder: np.ndarray,
    label25: np.ndarray,
    bounds: tuple[float, float],
    side: int,
    view: int = 0,
) -> np.ndarray:
    """Draws field.frag as renderer.js does; returns pixels [side side 3], rows from the top."""
    with context() as gl:
        program = _link(gl, vertex, fragment)
        gl.glUseProgram(program)
        _texture(gl, 0, _TEXTURE_2D_ARRAY, planes.astype(np.float32), _LINEAR)
        _texture(gl, 1, _TEXTURE_3D, occupancy, _NEAREST)
        _uniform_block(gl, program, np.ascontiguousarray(decoder, np.float32))
        target, buffer = ctypes.c_uint(), ctypes.c_uint()
        gl.glActiveTexture(_TEXTURE0 + 2)
        gl.glGenTextures(1, ctypes.byref(target))
        gl.glBindTexture(_TEXTURE_2D, target)
        gl.glTexStorage2D(_TEXTURE_2D, 1, _RGBA8, side, side)
        gl.glGenFramebuffers(1, ctypes.byref(buffer))
        gl.glBindFramebuffer(_FRAMEBUFFER, buffer)
        gl.glFramebufferTexture2D(_FRAMEBUFFER, _COLOR0, _TEXTURE_2D, target, 0)
        gl.glViewport(0, 0, side, side)
        pose = np.ascontiguousarray(label25[:16].reshape(4, 4).T, np.float32)
        _set(gl, program, {"planes": 0, "occupancy": 1, "view": view})
        place = gl.glGetUniformLocation(program, b"cam2world")
        gl.glUniformMatrix4fv(place, 1, 0, pose.ctypes.data_as(ctypes.c_void_p))
        _set(gl, program, {
            "lens": (label25[16], label25[20], label25[18], label25[21]),
            "skew": (label25[17],), "side": (side,), "bounds": bounds,
        })  # fmt: skip
        gl.glDrawArrays(_TRIANGLES, 0, 3)
        pixels = np.empty((side, side, 4), np.uint8)
        gl.glReadPixels(0, 0, side, side, _RGBA, _U8, pixels.ctypes.data_as(ctypes.c_void_p))
        assert gl.glGetError() == 0
        return pixels[::-1, :, :3].copy()


def _link(gl: Any, vertex: str, fragment: str) -> int:
    program = gl.glCreateProgram()
    for kind, text in ((_VERTEX, vertex), (_FRAGMENT, fragment)):
        shader, source = gl.glCreateShader(kind), text.encode()
        gl.glShaderSource(shader, 1, ctypes.byref(ctypes.c_char_p(source)), None)
        gl.glCompileShader(shader)
        _check(gl.glGetShaderiv, gl.glGetShaderInfoLog, shader, _COMPILED)
        gl.glAttachShader(program, shader)
    gl.glLinkProgram(program)
    _check(gl.glGetProgramiv, gl.glGetProgramInfoLog, program, _LINKED)
    return program


def _check(ask: Any, log: Any, what: int, flag: int) -> None:
    answer, text = ctypes.c_int(), ctypes.create_string_buffer(4000)
    ask(what, flag, ctypes.byref(answer))
    log(what, 4000, None, text)
    assert answer.value, text.value.decode()


def _texture(gl: Any, unit: int, kind: int, texels: np.ndarray, how: int) -> None:
    """Uploads [depth h w 4] floats or [depth h w] bytes."""
    texels = np.ascontiguousarray(texels)
    depth, height, width = texels.shape[:3]
    stored, layout, form = (_RGBA16F, _RGBA, _FLOAT) if texels.ndim == 4 else (_R8, _RED, _U8)
    name = ctypes.c_uint()
    gl.glActiveTexture(_TEXTURE0 + unit)
    gl.glGenTextures(1, ctypes.byref(name))
    gl.glBindTexture(kind, name)
    gl.glTexStorage3D(kind, 1, stored, width, height, depth)
    data = texels.ctypes.data_as(ctypes.c_void_p)
    gl.glTexSubImage3D(kind, 0, 0, 0, 0, width, height, depth, layout, form, data)
    for key, value in ((_MIN, how), (_MAG, how), *((wrap, _CLAMP) for wrap in _WRAPS)):
        gl.glTexParameteri(kind, key, value)


def _uniform_block(gl: Any, program: int, content: np.ndarray) -> None:
    buffer = ctypes.c_uint()
    gl.glGenBuffers(1, ctypes.byref(buffer))
    gl.glBindBuffer(_UNIFORM_BUFFER, buffer)
    data = content.ctypes.data_as(ctypes.c_void_p)
    gl.glBufferData(_UNIFORM_BUFFER, ctypes.c_ssize_t(content.nbytes), data, _STATIC_DRAW)
    gl.glUniformBlockBinding(program, gl.glGetUniformBlockIndex(program, b"Decoder"), 0)
    gl.glBindBufferBase(_UNIFORM_BUFFER, 0, buffer)


def _set(gl: Any, program: int, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        place = gl.glGetUniformLocation(program, name.encode())
        if isinstance(value, int):
            gl.glUniform1i(place, value)
        else:
            numbers = [ctypes.c_float(float(number)) for number in value]
            getattr(gl, f"glUniform{len(numbers)}f")(place, *numbers)
