import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fleet.errors import BadRequest, DataCorrupt, DataMissing, StorageFull, Unreachable
from workloads import fetch
from workloads.fetch import Source

CONTENT = bytes(range(256)) * 40
ZIPPED = gzip.compress(CONTENT)


@dataclass
class Mirror:
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    mirror = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            mirror.asked.append((self.path, asked))
            body = mirror.files.get(self.path.lstrip("/"))
            if body is None:
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start : mirror.cut_after])

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    mirror.url = f"http://127.0.0.1:{server.server_port}"
    yield mirror
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def small_sources(monkeypatch):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    small = {"small": ("here", (Source("small.gz", sha256, gunzipped=True),))}
    monkeypatch.setattr(fetch, "SOURCES", small)


def get(mirror: Mirror, folder: Path) -> Path:
    return fetch.fetch("small", mirror.url, folder, lambda file, done, total: None)


def test_a_fetched_file_is_what_the_mirror_has_and_nothing_else_is_left(mirror, tmp_path):
    mirror.files["small.gz"] = ZIPPED

    folder = get(mirror, tmp_path)

    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"small.gz": ZIPPED}


def test_another_compression_of_the_same_content_is_as_good(mirror, tmp_path):
    mirror.files["small.gz"] = gzip.compress(CONTENT, compresslevel=1, mtime=7)

    assert (get(mirror, tmp_path) / "small.gz").exists()


def test_other_content_is_thrown_away_and_both_sums_are_given(mirror, tmp_path):
    mirror.files["small.gz"] = gzip.compress(b"other")

    with pytest.raises(DataCorrupt) as caught:
        get(mirror, tmp_path)

    assert hashlib.sha256(b"other").hexdigest() in str(caught.value)
    assert hashlib.sha256(CONTENT).hexdigest() in str(caught.value)
    assert list((tmp_path / "here").iterdir()) == []


def test_a_cut_transfer_goes_on_where_it_stopped(mirror, tmp_path):
    mirror.files["small.gz"] = ZIPPED
    mirror.cut_after = 100
    with pytest.raises(Unreachable, match=f"100 of {len(ZIPPED)} bytes"):
        get(mirror, tmp_path)
    mirror.cut_after = None

    folder = get(mirror, tmp_path)

    assert mirror.asked[-1] == ("/small.gz", "bytes=100-")
    assert (folder / "small.gz").read_bytes() == ZIPPED


def test_a_file_that_was_whole_but_not_yet_in_place_is_not_fetched_again(mirror, tmp_path):
    mirror.files["small.gz"] = ZIPPED
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "small.gz.part").write_bytes(ZIPPED)

    assert (get(mirror, tmp_path) / "small.gz").read_bytes() == ZIPPED


def test_what_is_there_and_whole_is_not_asked_for_again(mirror, tmp_path):
    mirror.files["small.gz"] = ZIPPED
    get(mirror, tmp_path)

    get(mirror, tmp_path)

    assert len(mirror.asked) == 1


def test_progress_ends_at_all_of_the_bytes(mirror, tmp_path):
    mirror.files["small.gz"] = ZIPPED
    calls = []

    fetch.fetch("small", mirror.url + "/", tmp_path, lambda *call: calls.append(call))

    assert calls[0] == ("small.gz", 0, len(ZIPPED))
    assert calls[-1] == ("small.gz", len(ZIPPED), len(ZIPPED))


def test_a_file_the_mirror_has_not_is_missing_by_url_and_status(mirror, tmp_path):
    with pytest.raises(DataMissing, match=r"http://127\.0\.0\.1:\d+/small\.gz: HTTP 404"):
        get(mirror, tmp_path)


def test_a_mirror_that_does_not_answer_is_unreachable(tmp_path):
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:1/small\.gz"):
        fetch.fetch("small", "http://127.0.0.1:1", tmp_path, lambda *call: None)


def test_a_full_disk_is_said_to_be_full(mirror, tmp_path):
    mirror.files["small.gz"] = ZIPPED
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "small.gz.part").symlink_to("/dev/full")

    with pytest.raises(StorageFull, match=str(tmp_path)):
        get(mirror, tmp_path)


def test_an_unknown_data_set_lists_those_there_are(tmp_path):
    with pytest.raises(BadRequest, match="no data set 'smal' to fetch; known are small"):
        fetch.fetch("smal", "http://127.0.0.1:1", tmp_path, lambda *call: None)


def test_a_mirror_that_is_no_url_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="'mirror/data' is not the URL of a mirror"):
        fetch.fetch("small", "mirror/data", tmp_path, lambda *call: None)


def test_the_members_of_an_archive_are_taken_out_and_the_archive_goes(mirror, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("deep/a.bin", "deep/b.bin", "deep/readme"):
            info = tarfile.TarInfo(name)
            info.size = len(CONTENT)
            archive.addfile(info, io.BytesIO(CONTENT))
    mirror.files["all.tar.gz"] = buffer.getvalue()
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    source = Source("all.tar.gz", sha256, members=("a.bin", "b.bin"))
    monkeypatch.setattr(fetch, "SOURCES", {"small": ("here", (source,))})

    folder = get(mirror, tmp_path)

    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"a.bin": CONTENT, "b.bin": CONTENT}
