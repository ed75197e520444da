"""`python -m quantizer.warm`: compiles every kernel and keeps it, for an image or before the first payload.

Compiles for every level of this architecture's instruction set, or with --this for this machine's only, and
prints the folder. Fails where nothing can be kept.
"""

import os
import subprocess
import sys

from numba.core.sigutils import normalize_signature

from quantizer import compiled
from quantizer import kernels as _kernels  # noqa: F401  # registers itself
from quantizer import ring_kernels as _ring_kernels  # noqa: F401
from quantizer import sparse_kernels as _sparse_kernels  # noqa: F401


def main(arguments: list[str]) -> int:
    """What the command does; the exit code."""
    if arguments == ["--one"]:
        for kernel, signature in compiled.KERNELS:
            kernel.compile(normalize_signature(signature)[0])  # kept under its arguments, as a call does
        return 0
    if arguments not in ([], ["--this"]):
        print(__doc__, file=sys.stderr)
        return 2
    folder = compiled.folder()
    if folder is None or not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        print(f"compiled code cannot be kept in {folder}; set NUMBA_CACHE_DIR", file=sys.stderr)
        return 1
    for level in compiled.levels() if not arguments else [compiled.level()]:
        # One process each: numba takes the level when it starts.
        environment = os.environ | {"NUMBA_CPU_NAME": level}
        subprocess.run([sys.executable, "-m", "quantizer.warm", "--one"], env=environment, check=True)
        print(f"{len(compiled.KERNELS)} kernels for {level} in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
