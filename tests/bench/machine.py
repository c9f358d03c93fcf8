"""What a run was made on: without it a figure says nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from tests.peers import REPOSITORY

PEERS = ("dcmtk", "orthanc")
LIBRARIES = ("pydicom", "pynetdicom", "highdicom", "monai", "torch", "onnxruntime")


def describe() -> dict[str, Any]:
    """Return processor, cores, memory, disk, kernel, and versions of what is measured beside us."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_GB": round(psutil.virtual_memory().total / 1e9, 1),
        "file_system": _file_system(REPOSITORY),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version for name in (*PEERS, *LIBRARIES) if (version := _version(name))},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    mounts = [
        part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)
    ]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""


def _version(name: str) -> str:
    """Return the version of a Debian package or a Python distribution; empty if there is none."""
    if name in PEERS:
        try:
            asked = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Version}", name],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            return ""
        return asked.stdout
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
