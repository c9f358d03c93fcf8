"""``make audit``: ask the OSV database about every release that the lock files pin.

A finding fails. A database that does not answer does not, but it is said: then nothing was audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

LOCKS = ("requirements-build.lock", "requirements.lock", "requirements-torch.lock")
_COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--vulnerability-service=osv", "--timeout=15"),
    *("--format=json", "--progress-spinner=off", "--disable-pip", "--no-deps"),
)


def pinned(lock: Path) -> dict[str, str]:
    """Return the releases that a lock file names."""
    lines = (line.split() for line in lock.read_text(encoding="utf-8").splitlines())
    return dict(words[0].split("==") for words in lines if words and "==" in words[0])


def audit(releases: dict[str, str], *arguments: str) -> int:
    """Print what is known against ``releases``; 1 if there is anything.

    Args:
        releases: By name.
        arguments: More for pip-audit.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version}\n" for name, version in releases.items())
        file.flush()
        finished = subprocess.run(
            [*_COMMAND, f"--requirement={file.name}", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        answers = json.loads(finished.stdout)["dependencies"]
    except ValueError:  # it prints nothing when it cannot ask
        why = (finished.stderr.strip().splitlines() or ["no reason given"])[-1].partition(":")[0]
        print(f"NOT AUDITED: the vulnerability database does not answer ({why}).")
        return 0
    found = [(one, known) for one in answers for known in one.get("vulns", ())]
    for one, known in found:
        mended = ", ".join(known["fix_versions"]) or "no release"
        print(f"{one['name']} {one['version']}: {known['id']}, mended in {mended}")
    unknown = [one["name"] for one in answers if "skip_reason" in one]
    if unknown:
        print(f"NOT AUDITED: {', '.join(unknown)}.")
    audited = len(answers) - len(unknown)
    print(f"{audited} of {len(releases)} pinned releases audited, {len(found)} vulnerabilities.")
    return 1 if found else 0


if __name__ == "__main__":
    every = {name: version for lock in LOCKS for name, version in pinned(REPOSITORY / lock).items()}
    sys.exit(audit(every, *sys.argv[1:]))
