import gzip
import struct

import numpy as np
import pytest

from fleet.errors import DataCorrupt, DataMissing
from workloads import data


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_idx_file_gives_back_the_array_it_was_made_from(tmp_path, ending):
    path = tmp_path / f"images-idx3-ubyte{ending}"
    path.write_bytes(gzip.compress(idx(IMAGES)) if ending else idx(IMAGES))

    assert np.array_equal(data.read_idx(path, (3, 4, 4)), IMAGES)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (idx(IMAGES)[:9], "9 bytes, less than the 16 of its IDX header"),
        (b"\0\0\x0d\x03" + idx(IMAGES)[4:], "magic number 0x00000d03 instead of 0x00000803"),
        (idx(IMAGES[:2]), r"holds \(2, 4, 4\) values instead of \(3, 4, 4\)"),
        (idx(IMAGES)[:-1], "63 bytes instead of 64"),
        (idx(IMAGES) + b"\0", "65 bytes instead of 64"),
    ],
)
def test_a_broken_idx_file_is_refused_with_numbers(tmp_path, content, complaint):
    path = tmp_path / "images"
    path.write_bytes(content)

    with pytest.raises(DataCorrupt, match=complaint):
        data.read_idx(path, (3, 4, 4))


def test_a_cut_gz_file_is_refused_by_name(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(IMAGES))[:-9])

    with pytest.raises(DataCorrupt, match=r"images\.gz: cannot be gunzipped"):
        data.read_idx(path, (3, 4, 4))


def test_a_cifar_batch_gives_back_its_images_with_channels_last(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    path = tmp_path / "batch.bin"
    path.write_bytes(b"".join(bytes([7]) + i.transpose(2, 0, 1).tobytes() for i in images))

    split = data.read_cifar(path, 2)

    assert np.array_equal(split.images, images)
    assert split.labels.tolist() == [7, 7]


def test_a_cifar_batch_of_the_wrong_length_is_refused_with_numbers(tmp_path):
    path = tmp_path / "batch.bin"
    path.write_bytes(bytes(3073 * 2 - 1))

    with pytest.raises(DataCorrupt, match=r"6145 bytes instead of 6146 \(2 images of 3073\)"):
        data.read_cifar(path, 2)


def test_a_label_that_is_no_class_is_refused(tmp_path):
    path = tmp_path / "batch.bin"
    path.write_bytes(bytes(3073) + bytes([10]) + bytes(3072))

    with pytest.raises(DataCorrupt, match=r"label 10 of image 1 is not one of 0\.\.9"):
        data.read_cifar(path, 2)


def test_a_missing_data_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(DataMissing) as caught:
        data.read("cifar-10", tmp_path)

    assert str(tmp_path / "cifar-10-batches-bin") in str(caught.value)
    assert "wattbed data get cifar-10" in str(caught.value)


def test_fashion_mnist_is_found_in_the_folder_given_before_the_system_one(tmp_path):
    (tmp_path / "fashion-mnist").mkdir()
    for images, labels, _ in data.FASHION.values():
        (tmp_path / "fashion-mnist" / images).write_bytes(idx(IMAGES))
        (tmp_path / "fashion-mnist" / labels).write_bytes(idx(np.zeros(3, np.uint8)))

    with pytest.raises(DataCorrupt, match=str(tmp_path)):
        data.read("fashion-mnist", tmp_path)


def test_digits_need_nothing_and_hold_out_every_fifth_image():
    digits = data.read("digits", None)

    assert digits.train.images.shape == (1438, 8, 8, 1)
    assert digits.held_out.images.shape == (359, 8, 8, 1)
    assert digits.train.images.max() == 255
