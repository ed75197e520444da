"""Images on the wire: what comes back is what went in, and nothing else is taken."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from fleet.errors import CorruptUpdate
from fleet.images import pack, unpack
from workloads.generating import noise_seeds, sheet_png


def some(n=3, colours=1):
    return np.random.default_rng(1).integers(0, 256, (n, 8, 6, colours), np.uint8)


@pytest.mark.parametrize("colours", [1, 3])
def test_what_is_packed_comes_back_and_the_same_images_are_the_same_bytes(colours):
    images = some(colours=colours)
    assert (unpack(pack(images)) == images).all()
    assert pack(images) == pack(images.copy())


@pytest.mark.parametrize("images", [some().astype(float), some()[0]])
def test_what_is_not_images_is_not_packed(images):
    with pytest.raises(ValueError, match="uint8"):
        pack(images)


def zipped(array, name="images.npy"):
    out, inner = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(inner, array, allow_pickle=True)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, inner.getvalue())
    return out.getvalue()


def claiming(shape):
    """An array that says it is larger than it is."""
    out, inner = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(inner, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("images.npy", inner.getvalue() + b"x" * 10)
    return out.getvalue()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"PK\x03\x04",
        pack(some())[:-30],
        zipped(some(), "other.npy"),
        zipped(some().astype(float)),
        zipped(np.array([[{}]], dtype=object)),
        claiming((1 << 20, 1 << 10, 1 << 10, 3)),
        claiming((-1, 8, 8, 1)),
        claiming((2, 8, 8, 1)),
    ],
)
def test_damaged_or_hostile_bytes_are_an_error_with_a_name(payload):
    with pytest.raises(CorruptUpdate):
        unpack(payload)


def test_images_that_expand_to_a_thousand_times_their_claim_are_refused_before_they_are_unpacked():
    out, inner = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(inner, {"descr": "|u1", "fortran_order": False, "shape": (2, 8, 8, 1)})
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", inner.getvalue() + bytes(1 << 26))
    tracemalloc.start()
    with pytest.raises(CorruptUpdate, match="the images have 129 bytes"):
        unpack(out.getvalue())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_more_images_of_a_seed_begin_with_the_same_ones():
    assert noise_seeds(7, 5)[:3] == noise_seeds(7, 3)
    assert max(noise_seeds(7, 50)) < 1 << 63


def test_a_sheet_shows_all_images_side_by_side():
    from PIL import Image

    assert Image.open(io.BytesIO(sheet_png(some(5), columns=4))).size == (4 * 6, 2 * 8)
