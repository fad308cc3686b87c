"""Our own compiled code: a few rows through linear layers and whole blocks, on a CPU.

`kernels.c` is built when the package is installed, where there is a C compiler. Where there is
none, `library()` is None and everything runs through torch alone, slower.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from logging import getLogger
from pathlib import Path

import torch  # Before the library: both then use the OpenMP threads that torch brings.

logger = getLogger(__name__)

_int = ctypes.c_int32
_pointer = ctypes.c_void_p


class Kind(IntEnum):
    """What an instruction does; `kernels.c` says how."""

    NORM = 0
    LINEAR = 1
    ROTATE = 2
    STORE = 3
    ATTEND = 4
    GATE = 5
    ADD = 6


class Instruction(ctypes.Structure):
    """One step of a program. `kernels.c` says what each field means for each kind."""

    _fields_ = [
        ("kind", _int),
        ("type", _int),
        ("source", _int),
        ("source_at", _int),
        ("target", _int),
        ("target_at", _int),
        ("width", _int),
        ("outputs", _int),
        ("heads", _int),
        ("kv_heads", _int),
        ("option", _int),
        ("scale", ctypes.c_float),
        ("cap", ctypes.c_float),
        ("first", _pointer),
        ("second", _pointer),
        ("third", _pointer),
    ]


class Batch(ctypes.Structure):
    """The rows that a program is run on. `kernels.c` says what each field means."""

    _fields_ = [
        ("rows", _int),
        ("num_threads", _int),
        ("page_len", _int),
        ("scores_len", _int),
        ("buffers", _pointer),
        ("widths", _pointer),
        ("positions", _pointer),
        ("pages", _pointer),
        ("cosines", _pointer),
        ("sines", _pointer),
        ("rotated", _int),
        ("reserved", _int),
        ("scores", _pointer),
    ]


TYPES = {torch.float32: 0, torch.bfloat16: 1}
"""Number types of weights, keys and values that the kernels read."""

WEIGHT_TYPES = TYPES | {torch.int8: 2}
"""Number types of weights: those in int8 come with a float32 scale for each output."""

INT4_TYPES = {torch.bfloat16: 3, torch.float32: 4}
"""Weights in four bits, by the number type of the scales that lie among them; see `kernels.c`."""

MAX_ROWS = 16
"""Rows up to which the kernels are meant: beyond, torch's products are faster."""


class Library:
    """The functions of `kernels.c`. They give up Python's lock while they run."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self.run = library.homeswarm_run
        """`(instructions, count, batch)`: runs a program on one batch."""
        self.run.argtypes = [_pointer, ctypes.c_int64, _pointer]
        self.run.restype = None
        self.linear = library.homeswarm_linear
        """`(x, type, weight, bias, scales, width, outputs, rows, to, num_threads)`, all in float32
        but the weight."""
        self.linear.argtypes = [
            _pointer, _int, _pointer, _pointer, _pointer,
            ctypes.c_int64, ctypes.c_int64, _int, _pointer, _int,
        ]  # fmt: skip
        self.linear.restype = None
        self.widen = library.homeswarm_widen
        """`(type, weight, width, rows, to_type, to, num_threads)`: 4-bit weights as plain ones."""
        self.widen.argtypes = [
            _int, _pointer, ctypes.c_int64, ctypes.c_int64, _int, _pointer, _int,
        ]  # fmt: skip
        self.widen.restype = None


@cache
def library() -> Library | None:
    """The compiled kernels; None where they could not be built."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"kernels{suffix}")
        if not path.exists():
            continue
        try:
            return Library(path)
        except (OSError, AttributeError) as error:
            logger.warning("kernels not loaded path=%s why=%s", path, error)
    logger.info("kernels none: no C compiler when the package was installed")
    return None
