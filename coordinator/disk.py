"""What the kernel says when nothing can be written, and how much room there is."""

import shutil
from errno import EDQUOT, EFBIG, EIO, ENOSPC, EROFS
from pathlib import Path

FULL = (ENOSPC, EDQUOT, EFBIG)
"""A disk, a quota or a file is full."""
TROUBLE = (*FULL, EROFS, EIO)
"""The same, or the disk takes nothing at all: it may again, when somebody has seen to it."""


def in_trouble(error: BaseException) -> bool:
    """Whether `error` is the disk's, and may pass."""
    return isinstance(error, OSError) and error.errno in TROUBLE


def free_bytes(folder: Path) -> int:
    """Bytes that a process without special rights may still write below `folder`."""
    return shutil.disk_usage(folder).free
