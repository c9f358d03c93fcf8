"""Models that a site adds: whole and as stated, or not at all; and nothing that runs code."""

from __future__ import annotations

import hashlib
import http.server
import io
import pickle
import ssl
import subprocess
import tarfile
import threading
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from node.errors import ModelRefused, UsageError
from node.models import add, archive, names, shelf
from node.models.fetch import fetch
from pipelines import catalogue, models, registry
from tests.peers import free_port, site_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where added models lie."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model as a site has it."""
    return site_model.write(tmp_path / "source", threshold_hu=300.0)


def is_empty(folder: Path) -> bool:
    """Whether nothing was kept, not even in part."""
    return [path for path in folder.rglob("*") if path.name != ".incoming"] == []


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def add_folder(folder: Path, source: Path) -> models.AddedModel:
    return add.from_folder(folder, source, taken=registry.is_installed)


# --- a folder --------------------------------------------------------------------------------


def test_a_folder_is_copied_with_the_digest_of_every_file(folder: Path, source: Path) -> None:
    (source / "more").mkdir()
    (source / "more" / "README.md").write_text("ours")
    (source / ".git").mkdir()
    (source / ".git" / "config").write_text("passed over")
    added = add_folder(folder, source)
    assert sorted(added.files) == ["more/README.md", "pipeline.toml", "spot.onnx"]
    models.use(folder)
    try:
        read = models.get(site_model.NAME)
        assert read.files == added.files
        assert read.sha256 == added.sha256
        read.verify()
        assert read.read("spot.onnx") == (source / "spot.onnx").read_bytes()
    finally:
        models.use(None)


def _other_bytes(source: Path) -> None:
    (source / "spot.onnx").write_bytes((source / "spot.onnx").read_bytes() + b"\0")


def _link(source: Path) -> None:
    (source / "passwords").symlink_to("/etc/passwd")


def _linked_folder(source: Path) -> None:
    (source / "etc").symlink_to("/etc")


def _pickle(source: Path) -> None:
    (source / "weights.bin").write_bytes(pickle.dumps({"layer": [1.0]}))


def _pickle_by_name(source: Path) -> None:
    (source / "weights.pkl").write_bytes(b"whatever")


def _odd_name(source: Path) -> None:
    (source / "a\nb").write_text("")


def _no_manifest(source: Path) -> None:
    (source / "pipeline.toml").unlink()


def _wrong_manifest(source: Path) -> None:
    with (source / "pipeline.toml").open("a") as file:
        file.write("colour = 'red'\n")


def _name_of_a_package(source: Path) -> None:
    manifest = source / "pipeline.toml"
    manifest.write_text(manifest.read_text().replace(site_model.NAME, "brain-mr-volumetry"))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (_other_bytes, "SHA-256"),
        (_link, "no ordinary file"),
        (_linked_folder, "a link"),
        (_pickle, "a pickle"),
        (_pickle_by_name, "may run code"),
        (_odd_name, "no plain file name"),
        (_no_manifest, "cannot be used"),
        (_wrong_manifest, "cannot be used"),
        (_name_of_a_package, "installed package"),
    ],
)
def test_a_folder_that_is_not_a_safe_model_is_refused_whole(
    folder: Path, source: Path, spoil: Callable[[Path], None], what: str
) -> None:
    spoil(source)
    with pytest.raises(ModelRefused, match=what):
        add_folder(folder, source)
    assert is_empty(folder)


def test_a_model_is_not_replaced_by_another_of_its_name(folder: Path, source: Path) -> None:
    first = add_folder(folder, source)
    (source / "README.md").write_text("another")
    with pytest.raises(ModelRefused, match="already"):
        add_folder(folder, source)
    shelf.remove(folder, first.name)
    assert is_empty(folder)
    assert add_folder(folder, source).sha256 != first.sha256


def test_what_was_never_added_is_not_removed(folder: Path) -> None:
    with pytest.raises(UsageError):
        shelf.remove(folder, "../models")


def test_an_archive_within_a_model_must_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "weights.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data", bytes(1 << 20))
    names.check_content(bomb, "weights.pt")
    monkeypatch.setattr(names, "LARGEST_BYTES", (1 << 20) - 1)
    with pytest.raises(ModelRefused, match="takes over"):
        names.check_content(bomb, "weights.pt")


# --- the catalogue ---------------------------------------------------------------------------

WEIGHTS = b"weights of a model that its authors published"


def entry(**changes: Any) -> catalogue.Entry:
    one = catalogue.entries()["hippodeep"]
    return replace(one, name="published", files={"params/net.pt": sha256_of(WEIGHTS)}, **changes)


def test_files_from_a_stick_are_known_by_their_digest(folder: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (stick / "old").mkdir(parents=True)
    (stick / "old" / "net.pt").write_bytes(b"an older version")
    with pytest.raises(ModelRefused, match=r"params/net\.pt"):
        add.from_catalogue(folder, entry(), folder=stick)
    assert is_empty(folder)
    (stick / "net.pt").write_bytes(WEIGHTS)
    added = add.from_catalogue(folder, entry(), folder=stick)
    assert added.read("params/net.pt") == WEIGHTS


def test_without_a_digest_of_ours_a_site_must_state_its_own(folder: Path, tmp_path: Path) -> None:
    unknown = replace(entry(), files={"net.pt": ""})
    (tmp_path / "net.pt").write_bytes(WEIGHTS)
    with pytest.raises(ModelRefused, match="no digest"):
        add.from_catalogue(folder, unknown, folder=tmp_path)
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{sha256_of(WEIGHTS)}  ./net.pt\n")
    stated = add.digests_in(str(sums))
    assert add.from_catalogue(folder, unknown, folder=tmp_path, stated=stated).files == stated


# --- an address ------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A web server with a certificate that this machine trusts: its address, its folder."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("no_proxy", "localhost")
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.path.startswith("/elsewhere/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/elsewhere/"))
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("localhost", free_port()), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_catalogue_files_are_fetched_from_the_first_source_that_has_the_right_bytes(
    folder: Path, web: tuple[str, Path]
) -> None:
    address, served = web
    for name, content in (("wrong", b"tampered with"), ("right", WEIGHTS)):
        (served / name / "params").mkdir(parents=True)
        (served / name / "params" / "net.pt").write_bytes(content)
    sources = tuple(f"{address}/{name}/" for name in ("gone", "wrong", "right"))
    assert add.from_catalogue(folder, entry(sources=sources)).read("params/net.pt") == WEIGHTS
    shelf.remove(folder, "published")
    with pytest.raises(ModelRefused, match="404"):
        add.from_catalogue(folder, entry(sources=sources[:2]))
    assert is_empty(folder)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_at_an_address_becomes_a_model(
    folder: Path, source: Path, web: tuple[str, Path], kind: str
) -> None:
    address, served = web
    packed = served / f"model.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as file:
            for path in source.iterdir():
                file.write(path, f"spot-1.0/{path.name}")
    else:
        with tarfile.open(packed, "w:gz") as file:
            file.add(source, ".")
    url, sha256 = f"{address}/{packed.name}", sha256_of(packed.read_bytes())
    with pytest.raises(ModelRefused, match="not the file that was asked for"):
        add.from_address(folder, url, "0" * 64, taken=registry.is_installed)
    assert is_empty(folder)
    added = add.from_address(folder, url, sha256, taken=registry.is_installed)
    assert (added.name, added.source) == (site_model.NAME, url)
    assert sorted(added.files) == ["pipeline.toml", "spot.onnx"]


def test_a_fetch_is_encrypted_limited_and_leaves_nothing_half(
    tmp_path: Path, web: tuple[str, Path]
) -> None:
    address, served = web
    (served / "large").write_bytes(bytes(1001))
    target, sha256 = tmp_path / "target", sha256_of(bytes(1001))
    refused = {
        "http://localhost/large": "no https",
        f"{address}/elsewhere/http://localhost/large": "without https",
        f"{address}/elsewhere/file:///etc/passwd": "not allowed",
        f"{address}/gone": "404",
        "https://localhost:1/large": "could not be fetched",
    }
    for url, why in refused.items():
        with pytest.raises(ModelRefused, match=why):
            fetch(url, target, sha256)
        assert not target.exists()
    with pytest.raises(ModelRefused, match="larger"):
        fetch(f"{address}/large", target, sha256, largest_bytes=1000)
    assert not target.exists()
    fetch(f"{address}/elsewhere/{address}/large", target, sha256)
    assert target.read_bytes() == bytes(1001)


def test_a_certificate_that_nobody_vouches_for_is_refused(
    tmp_path: Path, web: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ModelRefused, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(f"{web[0]}/x", tmp_path / "target", "0" * 64)


# --- archives --------------------------------------------------------------------------------


def tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as file:
        for one in members:
            file.addfile(one, io.BytesIO(bytes(one.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    one = tarfile.TarInfo(name)
    one.type, one.linkname = kind, link
    return one


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("/etc/cron.d/job"),
        member("a/../../outside"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.LNKTYPE, "../outside"),
        member("pipe", tarfile.FIFOTYPE),
        member("weights.pkl"),
    ],
    ids=lambda one: f"{one.name} {one.type!r}",
)
def test_an_archive_writes_only_ordinary_files_and_only_inside(
    tmp_path: Path, bad: tarfile.TarInfo
) -> None:
    packed = tar_of(tmp_path / "packed", member("good"), bad)
    with pytest.raises(ModelRefused):
        archive.extract(packed, tmp_path / "unpacked")
    assert not (tmp_path / "outside").exists()
    assert {path.name for path in (tmp_path / "unpacked").rglob("*")} <= {"good"}


def test_a_zip_with_a_link_or_a_climbing_name_is_refused(tmp_path: Path) -> None:
    for number, (name, attributes) in enumerate([("link", 0o120777 << 16), ("../outside", 0)]):
        packed = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(packed, "w") as file:
            one = zipfile.ZipInfo(name)
            one.external_attr = attributes
            file.writestr(one, "/etc/passwd")
        with pytest.raises(ModelRefused):
            archive.extract(packed, tmp_path / str(number))
        assert list((tmp_path / str(number)).iterdir()) == []


def test_an_archive_that_unpacks_to_too_much_is_refused_as_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(1 << 20))
        file.writestr("b", bytes(1 << 20))
    monkeypatch.setattr(archive, "LARGEST_BYTES", 3 << 19)
    with pytest.raises(ModelRefused, match="larger"):
        archive.extract(packed, tmp_path / "unpacked")
    monkeypatch.setattr(archive, "MOST_FILES", 1)
    with pytest.raises(ModelRefused, match="files"):
        archive.extract(packed, tmp_path / "again")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(b"not an archive")
    with pytest.raises(ModelRefused, match="cannot be unpacked"):
        archive.extract(tmp_path / "packed", tmp_path / "unpacked")
