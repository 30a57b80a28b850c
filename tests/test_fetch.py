"""Downloads: mirrors in turn, SHA-256 decides, nothing partial stays."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from genai_utils.data.fetch import TIMEOUT, fetch, fetch_folder, registry

CONTENT = bytes(range(256)) * 400  # 100 kB
NAME = "train-images-idx3-ubyte.gz"
FILE = {"name": NAME, "sha256": hashlib.sha256(CONTENT).hexdigest()}


class Mirror(BaseHTTPRequestHandler):
    """Answers as the first part of the path says."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        self.server.asked.append(kind)
        if kind == "refuses":
            self.send_error(403)
            return
        if kind == "silent":
            self.server.over.wait(20)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if kind == "stalls":
            self.wfile.write(CONTENT[:50_000])
            self.wfile.flush()
            self.server.over.wait(20)
        elif kind == "breaks":
            self.wfile.write(CONTENT[:50_000])
        elif kind == "wrong":
            self.wfile.write(CONTENT[::-1])
        else:
            self.wfile.write(CONTENT)

    def log_message(self, *args):
        """Stay quiet."""


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server on the loopback, an empty cache, and no data directory."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GENAI_DATA_DIR", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.asked, server.over = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def file_on(server, *kinds):
    host = f"http://127.0.0.1:{server.server_port}"
    return {**FILE, "urls": [f"{host}/{kind}/{NAME}" for kind in kinds]}


def cached(tmp_path):
    return sorted(p.name for p in tmp_path.rglob("*") if p.is_file())


def test_mirrors_are_tried_in_turn_until_one_serves(mirror, tmp_path):
    file = file_on(mirror, "refuses", "silent", "serves", "never asked")
    path = fetch("mnist", file, timeout=0.3)
    assert path == tmp_path / "cache" / "mnist" / NAME
    assert path.read_bytes() == CONTENT
    assert mirror.asked == ["refuses", "silent", "serves"]
    assert cached(tmp_path) == [NAME]  # and nothing partial beside it
    fetch("mnist", file)
    assert len(mirror.asked) == 3  # the second time from the cache


@pytest.mark.parametrize("fault", ["wrong", "breaks", "stalls"])
def test_a_mirror_with_the_wrong_bytes_is_left_for_the_next(fault, mirror, tmp_path):
    path = fetch("mnist", file_on(mirror, fault, "serves"), timeout=0.3)
    assert path.read_bytes() == CONTENT
    assert mirror.asked == [fault, "serves"]
    assert cached(tmp_path) == [NAME]


def test_the_error_lists_each_mirror_with_its_reason(mirror, tmp_path):
    kinds = ("refuses", "silent", "stalls", "breaks", "wrong")
    file = file_on(mirror, *kinds)
    file["urls"].append("http://127.0.0.1:9/closed/" + NAME)
    with pytest.raises(FileNotFoundError, match="Received:") as error:
        fetch("mnist", file, timeout=0.3)
    message = str(error.value)
    reasons = dict(
        zip(message.split("\n")[1::2], message.split("\n")[2::2], strict=False)
    )
    assert [url.strip() for url in reasons][:6] == file["urls"]
    refused, silent, stalled, broken, wrong, closed = list(reasons.values())[:6]
    assert "403" in refused and "timed out" in silent and "timed out" in stalled
    assert "50000 bytes read" in broken and "SHA256" in wrong and "refused" in closed
    # and says what to do by hand
    assert f"$GENAI_DATA_DIR/mnist/{NAME}" in message
    assert str(tmp_path / "cache" / "mnist" / NAME) in message
    assert cached(tmp_path) == []


def test_a_file_put_there_by_hand_is_checked_and_needs_no_mirror(
    mirror, tmp_path, monkeypatch
):
    monkeypatch.setenv("GENAI_DATA_DIR", str(tmp_path))
    file = file_on(mirror, "serves")
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / NAME).write_bytes(CONTENT)
    assert fetch("mnist", file) == tmp_path / "mnist" / NAME
    (tmp_path / "mnist" / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"SHA-256 .* Received: "):
        fetch("mnist", file)
    assert mirror.asked == []


def test_a_damaged_file_in_the_cache_is_refused(mirror, tmp_path):
    file = file_on(mirror, "serves")
    path = fetch("mnist", file)
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"SHA-256 .* Received: "):
        fetch("mnist", file)


def test_timeout_must_be_above_zero():
    with pytest.raises(ValueError, match=r"`timeout` must be .* Received: 0"):
        fetch("mnist", {**FILE, "urls": []}, timeout=0)
    assert 5 <= TIMEOUT <= 30


def test_registry_names_licence_hash_and_address():
    for entry in registry().values():
        assert {"title", "licence", "citation"} <= set(entry)
        for name, file in entry["files"].items():
            assert len(file["sha256"]) == 64
            hosts = {urlsplit(url).netloc for url in file["urls"]}
            assert len(hosts) == len(file["urls"]) >= 3  # no host alone decides
            for url in file["urls"]:
                assert url.startswith("https://") and url.endswith(name.split("/")[-1])
        assert entry["files"] or {"archive", "folder"} <= set(entry)


def test_an_archive_has_a_hash_and_more_than_one_address():
    for entry in registry().values():
        for file in [entry["archive"]] if "archive" in entry else []:
            assert len(file["sha256"]) == len(entry["folder"]["sha256"]) == 64
            hosts = {urlsplit(url).netloc for url in file["urls"]}
            assert len(hosts) == len(file["urls"]) >= 2
            assert all(url.startswith("https://") for url in file["urls"])


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A set of three files: an archive on this machine, and what its entry says."""
    texts = {"wav/a.wav": b"one", "wav/b.wav": b"two", "other/c.txt": b"three"}
    archive = tmp_path / "set-1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"set-1/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    lines = [
        f"{hashlib.sha256(text).hexdigest()}  voices/{name}\n"
        for name, text in sorted(texts.items())
        if name.endswith(".wav")
    ]
    entry = {
        "files": {},
        "folder": {
            "pattern": "wav/*.wav",
            "count": 2,
            "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
        },
        "archive": {
            "name": archive.name,
            "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
            "urls": ["https://127.0.0.1:9/set-1.tar.gz"],
            "prefix": "set-1",
            "pattern": "wav/*.wav",
        },
    }
    sets = {"voices": entry, "mnist": {"files": {}}}
    monkeypatch.setattr("genai_utils.data.fetch.registry", lambda: sets)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setenv("GENAI_DATA_DIR", str(tmp_path / "data"))
    return texts, archive


def test_many_files_come_from_the_data_directory_and_are_checked(many, tmp_path):
    for name, text in many[0].items():
        path = tmp_path / "data" / "voices" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    folder = fetch_folder("voices")
    assert folder == tmp_path / "data" / "voices"
    (folder / "other" / "c.txt").write_bytes(b"no matter: not in the pattern")
    fetch_folder("voices")
    (folder / "wav" / "a.wav").write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"must hold 2 files .* Received: 2 files"):
        fetch_folder("voices")
    (folder / "wav" / "a.wav").unlink()
    with pytest.raises(ValueError, match="Received: 1 files"):
        fetch_folder("voices")


def test_an_archive_is_unpacked_once_and_only_what_matches(many, tmp_path):
    place = tmp_path / "data" / "voices"
    place.mkdir(parents=True)
    many[1].rename(place / many[1].name)  # put there by hand
    folder = fetch_folder("voices")
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*"))
    assert names == ["wav/a.wav", "wav/b.wav"]
    assert (folder / "wav" / "b.wav").read_bytes() == b"two"
    (place / many[1].name).unlink()
    assert fetch_folder("voices") == folder  # from the cache
    assert [p.name for p in folder.parent.iterdir()] == ["set-1"]  # no leftovers


def test_many_files_that_cannot_be_had_are_named(many):
    with pytest.raises(FileNotFoundError, match=r"needs the file set-1\.tar\.gz"):
        fetch_folder("voices", timeout=0.2)
    with pytest.raises(ValueError, match=r"one of \['voices'\]. Received: 'mnist'"):
        fetch_folder("mnist")
