"""Functions compiled by numba, for the instruction set of the machine and kept on disk.

Code is compiled for a level of the instruction set (x86-64-v4, -v3, -v2) and not for the very CPU, so that what
an image was filled with (`python -m quantizer.warm`) is found on every machine of that level. The arithmetic of
the kernels is exact or rounded where it says so, so the level changes the speed and never a byte.

Numba's own cache looks for a folder that it may write to and ignores a filled one that it may only read. This one
does not, and where nothing can be kept it compiles, which takes seconds and changes nothing else. In this order:
NUMBA_CACHE_DIR; `__pycache__` beside the code; a folder of this user's in the folder of temporary files.
"""

import contextlib
import hashlib
import os
import platform
import stat
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from numba import config, njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, InTreeCacheLocator

V2 = {"cx16", "popcnt", "sahf", "sse4.2", "ssse3"}
V3 = V2 | {"avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"}
V4 = V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
LEVELS = {"x86-64-v4": V4, "x86-64-v3": V3, "x86-64-v2": V2, "x86-64": set[str]()}

F = TypeVar("F", bound=Callable[..., Any])

SOURCES = ("kernels.py", "packing.py", "ring_kernels.py", "sparse_kernels.py", "tiles.py")
"""The files whose functions go into kernels: code is kept as long as none of them changes."""

KERNELS: list[tuple[Any, str]] = []
"""Every compiled function with its one signature, for quantizer.warm."""


def levels() -> list[str]:
    """The levels there are for this architecture, best first."""
    return list(LEVELS) if platform.machine() in {"x86_64", "AMD64"} else ["generic"]


def level() -> str:
    """The best level that this machine has."""
    if levels() == ["generic"]:
        return "generic"
    has = llvm.get_host_cpu_features()
    return next(name for name, needed in LEVELS.items() if all(has.get(feature) for feature in needed))


if config.CPU_FEATURES is None:  # NUMBA_CPU_FEATURES is not set
    if config.CPU_NAME is None:
        config.CPU_NAME = level()
    if config.CPU_NAME in levels():
        # The level's own, not all that this machine has; and all 512 bits of x86-64-v4, of which LLVM would take
        # half for the sake of the first processors that had them.
        config.CPU_FEATURES = "-prefer-256-bit" if config.CPU_NAME == "x86-64-v4" else ""


@cache
def folder() -> Path | None:
    """Where compiled code is kept, or None."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR) / "quantizer"
    beside = Path(__file__).parent / "__pycache__"
    if os.access(beside if beside.exists() else beside.parent, os.W_OK) or any(beside.glob("kernels.*.nbi")):
        return beside
    return _own(Path(tempfile.gettempdir()) / f"quantizer-{os.getuid()}")


def _own(path: Path) -> Path | None:
    """`path` if it is a folder that nobody else can write to: what is loaded from it is run."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError:
        return None
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return path if mine and os.access(path, os.W_OK) else None


@cache
def _stamp() -> bytes:
    return hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in SOURCES)).digest()


class _Locator(InTreeCacheLocator):  # type: ignore[misc]  # numba has no types
    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        super().__init__(py_func, py_file)
        self._cache_path = str(folder())

    def get_source_stamp(self) -> bytes:
        """One for all kernels."""
        return _stamp()

    def ensure_cache_path(self) -> None:
        """Makes the folder if it can; one that is there and cannot be written to will do for reading."""
        with contextlib.suppress(OSError):
            Path(self._cache_path).mkdir(parents=True, exist_ok=True)


class _Results(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Cache(FunctionCache):  # type: ignore[misc]
    _impl_class = _Results

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps compiled code where that is possible: a full disk or a read-only one is no error."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def inner(function: F) -> F:
    """`function` for other compiled functions to call; it is kept with them."""
    made: F = njit(function, nogil=True, error_model="numpy")
    return made


def compiled(signature: str) -> Callable[[F], F]:
    """A decorator: the function as machine code for `signature`, loaded or compiled at its first call."""

    def decorate(function: F) -> F:
        kernel: F = njit(function, nogil=True, error_model="numpy")
        if folder() is not None:
            kernel._cache = _Cache(function)  # type: ignore[attr-defined]  # what cache=True does
        KERNELS.append((kernel, signature))
        return kernel

    return decorate
