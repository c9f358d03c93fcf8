"""Over TLS, in both directions: who gets in, who does not, and who keeps nobody waiting."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from node.configuration import load_settings
from node.dimse import hardening, listener, sender
from node.errors import ConfigError, PeerUnreachable
from node.settings import DimseDestination
from node.tls import DestinationTls, ListenTls, server_context
from tests.node.receiving import instances, listening
from tests.peers import accepts, dcmtk, free_port, wait_until
from tests.peers.certificates import Authority, Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from node.store.ledger import Ledger

SCANNER, NODE, PACS = "ct1.hospital.example", "localhost", "localhost"
SLICE = Path(str(get_testdata_file("CT_small.dcm")))


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def scanner(authority) -> Identity:
    return authority.issue(SCANNER)


@pytest.fixture(scope="module")
def node(authority) -> Identity:
    return authority.issue(NODE)


@dataclass(frozen=True)
class Ports:
    plain: int
    secure: int


@pytest.fixture
def listen(settings: Settings, ledger: Ledger, authority, node):
    """Run a listener with these options of TLS."""

    @contextmanager
    def run(**options: object) -> Iterator[Ports]:
        tls = ListenTls(
            port=free_port(),
            certificate=node.certificate,
            key=node.key,
            trusted=authority.certificate,
            **options,
        )
        both = settings.listen.model_copy(update={"tls": tls})
        with listening(settings.model_copy(update={"listen": both}), ledger):
            yield Ports(settings.listen.port, tls.port)

    return run


def send(port: int, authority: Authority, who: Identity, *options: str, ae: str = "CT1") -> bool:
    """Send one slice as a scanner of another maker would; whether it was acknowledged."""
    trust = ["+cf", str(authority.certificate)]
    proof = ["+tls", str(who.key), str(who.certificate)]
    done = dcmtk.storescu(port, [SLICE], *proof, *trust, *options, calling_ae=ae)
    return done.returncode == 0


def echoes(port: int, how: ssl.SSLContext | None, *, ae: str = "CT1") -> bool:
    entity = AE(ae)
    entity.add_requested_context(Verification)
    tls = None if how is None else (how, NODE)
    association = entity.associate("127.0.0.1", port, ae_title="RADNODE", tls_args=tls)
    if not association.is_established:
        return False
    status = association.send_c_echo().Status
    association.release()
    return status == 0x0000


def speaking(version: ssl.TLSVersion, authority: Authority, who: Identity | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    if who is not None:
        context.load_cert_chain(who.certificate, who.key)
    return context


# --- who comes in ----------------------------------------------------------------------------


def test_a_scanner_with_a_certificate_of_the_hospital_sends(listen, ledger, authority, scanner):
    with listen() as ports:
        assert send(ports.secure, authority, scanner)
    assert [row["sop_class_uid"] for row in instances(ledger)] == [CTImageStorage]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(listen, authority, scanner, version):
    with listen() as ports:
        assert echoes(ports.secure, speaking(version, authority, scanner))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_what_is_older_is_not(listen, authority, scanner, version):
    with listen() as ports:
        assert not echoes(ports.secure, speaking(version, authority, scanner))


def test_a_cipher_without_forward_secrecy_is_not_agreed_on(listen, authority, scanner):
    with listen() as ports:
        weak = speaking(ssl.TLSVersion.TLSv1_2, authority, scanner)
        weak.set_ciphers("AES256-GCM-SHA384:AES128-SHA")
        assert not echoes(ports.secure, weak)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_shows_no_certificate_stays_outside(listen, authority, version):
    with listen() as ports:
        assert not echoes(ports.secure, speaking(version, authority, None))


def test_an_expired_certificate_is_none(listen, authority, ledger):
    with listen() as ports:
        assert not send(ports.secure, authority, authority.issue("old.example", expired=True))
    assert instances(ledger) == []


def test_nor_is_one_of_another_authority(listen, authority, tmp_path):
    stranger = Authority(tmp_path / "elsewhere").issue(SCANNER)
    with listen() as ports:
        assert not send(ports.secure, authority, stranger)


def test_nor_is_one_that_was_revoked(listen, authority, scanner):
    stolen = authority.issue("stolen.example")
    with listen(revoked=authority.revoke(stolen)) as ports:
        assert not send(ports.secure, authority, stolen)
        assert send(ports.secure, authority, scanner)


def test_a_scanner_may_be_trusted_without_an_authority(settings, ledger, authority, scanner, node):
    port = free_port()
    tls = ListenTls(
        port=port, certificate=node.certificate, key=node.key, trusted=scanner.certificate
    )
    both = settings.listen.model_copy(update={"tls": tls})
    with listening(settings.model_copy(update={"listen": both}), ledger):
        assert send(port, authority, scanner)
        assert not send(port, authority, authority.issue("ct2.hospital.example"))


@pytest.mark.parametrize("by", ["name", "fingerprint"])
def test_an_ae_title_belongs_to_its_certificate(listen, authority, scanner, by):
    stated = SCANNER if by == "name" else scanner.fingerprint
    other = authority.issue("mr1.hospital.example")
    with listen(callers={"CT1": stated}) as ports:
        assert send(ports.secure, authority, scanner)
        assert not send(ports.secure, authority, other)
        assert send(ports.secure, authority, other, ae="MR1")
        assert dcmtk.storescu(ports.plain, [SLICE], calling_ae="MR1").returncode == 0
        assert dcmtk.storescu(ports.plain, [SLICE], calling_ae="CT1").returncode != 0


def test_nothing_comes_unencrypted_where_the_site_says_so(listen, authority, scanner):
    with listen(only=True) as ports:
        assert not accepts(ports.plain)
        assert not echoes(ports.secure, None)
        assert send(ports.secure, authority, scanner)


# --- who keeps others waiting ----------------------------------------------------------------


def test_a_silent_handshake_keeps_nobody_waiting_and_ends(
    listen, authority, scanner, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hardening, "HANDSHAKE_S", 1.0)
    with listen() as ports, socket.create_connection(("127.0.0.1", ports.secure)) as silent:
        assert send(ports.secure, authority, scanner)
        silent.settimeout(30.0)
        assert silent.recv(1) == b""


def test_an_address_has_so_many_connections_and_gives_them_back(settings, ledger):
    few = settings.listen.model_copy(update={"maximum_connections_per_address": 2})
    with listening(settings.model_copy(update={"listen": few}), ledger) as port:
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        assert not echoes(port, None)
        with socket.create_connection(("127.0.0.1", port), 30.0, ("127.0.0.2", 0)) as other:
            other.sendall(bytes([1, 0, 0, 0, 0, 4, 0, 0, 0, 0]))  # no A-ASSOCIATE-RQ that can be
            assert other.recv(1) == b"\x07"
        for connection in held:
            connection.close()
        wait_until(lambda: echoes(port, None), what="A place")


# --- where the node calls --------------------------------------------------------------------


def destination(port: int, authority: Authority, node: Identity, **options) -> DimseDestination:
    tls = {"certificate": node.certificate, "key": node.key, "trusted": authority.certificate}
    return DimseDestination(
        kind="dimse",
        ae_title="STORESCP",
        host="localhost",
        port=port,
        timeout_s=10.0,
        tls=DestinationTls(**(tls | options)),
    )


@pytest.fixture
def pacs(tmp_path, authority):
    own = authority.issue(PACS)
    secured = ["+tls", own.key, own.certificate, "+cf", authority.certificate]
    with dcmtk.storescp(tmp_path / "pacs", *map(str, secured)) as running:
        yield running


def test_results_go_out_over_tls(settings, authority, node, pacs):
    where = destination(pacs.port, authority, node)
    assert sender.echo(settings, where) > 0.0
    image = dcmread(SLICE)
    sent = dict(sender.send(settings, where, {str(image.SOPInstanceUID): SLICE}))
    assert sent == {str(image.SOPInstanceUID): 0x0000}
    (received,) = pacs.datasets()
    assert received.PixelData == image.PixelData


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_ones_do_in_both_versions(settings, ledger, listen, authority, scanner, version):
    # To a listener of our own: DCMTK 3.6.7 speaks no TLS 1.3.
    image = dcmread(SLICE)
    image.Rows, image.Columns = 2048, 4096
    image.PixelData = bytes(range(256)) * (2 * 2048 * 4096 // 256)
    path = settings.data / "large.dcm"
    image.save_as(path)
    with capped(version), listen() as ports:
        where = destination(ports.secure, authority, scanner).model_copy(
            update={"ae_title": "RADNODE"}
        )
        assert sender.echo(settings, where) > 0.0
        sent = dict(sender.send(settings, where, {str(image.SOPInstanceUID): path}))
    assert sent == {str(image.SOPInstanceUID): 0x0000}
    assert [row["size_bytes"] > 16_000_000 for row in instances(ledger)] == [True]


@contextmanager
def capped(version: ssl.TLSVersion) -> Iterator[None]:
    """Let the listener speak no later version."""

    def older(tls: ListenTls) -> ssl.SSLContext:
        context = server_context(tls)
        context.maximum_version = version
        return context

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(listener, "server_context", older)
        yield


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"server_name": "pacs.elsewhere.example"}, "mismatch"),
        ({"trusted": "other"}, "certificate"),
    ],
)
def test_a_pacs_that_is_not_who_it_should_be_gets_nothing(
    settings, authority, node, pacs, tmp_path, options, said
):
    if "trusted" in options:
        options = {"trusted": Authority(tmp_path / "other").certificate}
    where = destination(pacs.port, authority, node, **options)
    with pytest.raises(PeerUnreachable, match=said):
        sender.echo(settings, where)


# --- the files -------------------------------------------------------------------------------


def test_paths_are_taken_from_the_configuration_file(tmp_path):
    files = 'certificate = "n.pem"\nkey = "n.key"\ntrusted = "/etc/ssl/hospital.pem"\n'
    config = tmp_path / "radnode.toml"
    config.write_text(f"[listen.tls]\n{files}")
    tls = load_settings(config).listen.tls
    assert tls is not None
    assert tls.certificate == tmp_path / "n.pem"
    assert tls.trusted == Path("/etc/ssl/hospital.pem")


def test_a_file_that_is_none_is_said_with_what_to_do(settings, authority, node, tmp_path):
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    tls = ListenTls(certificate=broken, key=node.key, trusted=authority.certificate)
    with pytest.raises(ConfigError, match=r"listen\.tls"):
        server_context(tls)
    where = destination(1, authority, node, key=tmp_path / "missing.key")
    with pytest.raises(PeerUnreachable, match=r"tls: No such file"):
        sender.echo(settings, where)
