"""How a process that moves models in chunks should hold its memory: freed chunks are used again.

glibc gives chunks of a mebibyte back to the kernel at once and gets fresh pages for the next, which costs more
than the copy that fills them.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Parameters of mallopt(3)."""

_TRIM_BYTES = 256 << 20
_MMAP_BYTES = 32 << 20


def keep_buffers() -> bool:
    """Has malloc keep what is freed, in one arena; False where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_TRIM_THRESHOLD, _TRIM_BYTES), (_M_MMAP_THRESHOLD, _MMAP_BYTES), (_M_ARENA_MAX, 1))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
