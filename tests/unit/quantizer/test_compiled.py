"""Compiled code: one signature per kernel, and kept where that is safe, also where nothing can be written."""

import os
from pathlib import Path

import numpy as np
import pytest
from numba import config
from numba.core.sigutils import normalize_signature

import quantizer
from quantizer import compiled, decode, encode


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """`folder` without its memory, and no folder asked for."""
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path))
    compiled.folder.cache_clear()
    yield tmp_path
    compiled.folder.cache_clear()


def test_every_kernel_is_called_with_the_one_signature_that_is_compiled_ahead():
    values = {"x": np.linspace(-1, 1, 5000, dtype=np.float32)}
    for options in ({}, {"codec": "minmax"}, {"keep": 0.1}, {"entropy": "on"}, {"codec": "float16", "bits": 16}):
        decode(encode(values, seed=0, **({"bits": 5} | options)))
    called = {kernel.__name__: kernel.signatures for kernel, _ in compiled.KERNELS if kernel.signatures}
    declared = {k.__name__: [normalize_signature(s)[0]] for k, s in compiled.KERNELS}
    assert len(called) >= 10
    assert all(signatures == declared[name] for name, signatures in called.items())


def test_code_is_compiled_anew_when_any_file_changes_that_goes_into_it():
    folder = Path(quantizer.__file__).parent
    marks = ("\n@inner", "\n@compiled(")
    holding = {p.name for p in folder.glob("*.py") if any(mark in p.read_text() for mark in marks)}
    assert holding == set(compiled.SOURCES)


def test_a_folder_that_is_asked_for_is_taken(fresh, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(fresh / "asked"))
    assert compiled.folder() == fresh / "asked" / "quantizer"


def test_a_filled_folder_beside_the_code_is_read_where_it_cannot_be_written(fresh, monkeypatch):
    beside = Path(quantizer.__file__).parent / "__pycache__"
    assert any(beside.glob("kernels.*.nbi")) or os.environ.get("NUMBA_CACHE_DIR")
    monkeypatch.setattr(compiled.Path, "glob", lambda self, pattern: iter([self / "kernels.quantise.nbi"]))
    monkeypatch.setattr(compiled.os, "access", lambda path, mode: Path(path) != beside)
    assert compiled.folder() == beside


def test_without_one_a_folder_of_this_users_own_is_made(fresh, monkeypatch):
    monkeypatch.setattr(compiled.Path, "glob", lambda self, pattern: iter(()))
    monkeypatch.setattr(compiled.os, "access", lambda path, mode: fresh in Path(path).parents)
    made = compiled.folder()
    assert made == fresh / f"quantizer-{os.getuid()}"
    assert made.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_to_is_not_trusted(fresh, monkeypatch):
    (fresh / f"quantizer-{os.getuid()}").mkdir()
    (fresh / f"quantizer-{os.getuid()}").chmod(0o777)
    monkeypatch.setattr(compiled.Path, "glob", lambda self, pattern: iter(()))
    monkeypatch.setattr(compiled.os, "access", lambda path, mode: fresh in Path(path).parents)
    assert compiled.folder() is None


def test_code_that_cannot_be_kept_is_no_error(monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("numba.core.caching.FunctionCache.save_overload", full)
    kernel, _ = compiled.KERNELS[0]
    assert compiled._Cache(kernel.py_func).save_overload(None, None) is None


def test_the_level_of_this_machine_is_one_of_its_architecture():
    assert compiled.level() in compiled.levels()
