"""Images on the wire and on disk: uint8 (n, H, W, C) as a compressed .npz of one array, read without trust."""

import io
import zipfile
import zlib

import numpy as np
from numpy.lib import format as npy

from fleet.errors import CorruptUpdate

NAME = "images"
MOST_BYTES = 1 << 28
"""No set of images that is unpacked is larger."""


def pack(images: np.ndarray) -> bytes:
    """The .npz of `images`, uint8 (n, H, W, C); the same images give the same bytes."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images are uint8 (n, H, W, C), not {images.dtype} {images.shape}")
    out = io.BytesIO()
    np.savez_compressed(out, images=images)
    return out.getvalue()


def unpack(payload: bytes) -> np.ndarray:
    """The images in `payload`; CorruptUpdate where they are damaged, of another type, or more than MOST_BYTES."""
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive, archive.open(f"{NAME}.npy") as member:
            version = npy.read_magic(member)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read(member)
            size = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 0
            if dtype != np.uint8 or len(shape) != 4 or fortran or not 0 < size <= MOST_BYTES:
                raise CorruptUpdate(
                    f"not images: {dtype} {shape}, uint8 (n, H, W, C) of at most {MOST_BYTES} bytes"
                )
            data = member.read(size + 1)
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise CorruptUpdate(f"the images cannot be read: {error}") from error
    if len(data) != size:
        raise CorruptUpdate(f"the images have {len(data)} bytes; {shape} takes {size}")
    return np.frombuffer(data, np.uint8).reshape(shape)
