"""``python -m tests.bench.document``: write docs/performance.md from build/bench/bench.json.

Only what stands between the markers of a part is replaced; the prose around it is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from tests.bench import plots
from tests.bench.__main__ import JSON
from tests.peers import REPOSITORY

PAGE = REPOSITORY / "docs" / "performance.md"
IMAGES = REPOSITORY / "docs" / "images"
_SECTION = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Replace every section whose part was measured."""
    parts: dict[str, Any] = json.loads(JSON.read_text())

    def written(section: re.Match[str]) -> str:
        begin, name, end = section.groups()
        return begin + _section(name, parts[name]) + end if name in parts else section.group()

    PAGE.write_text(_SECTION.sub(written, PAGE.read_text()))
    return 0


def _section(name: str, measured: dict[str, Any]) -> str:
    pictures = [
        f"![{path.stem.replace('-', ' ')}](images/{path.name})\n"
        for path in plots.draw(name, measured, IMAGES)
    ]
    blocks = [_machine(measured), _goals(measured["goals"]), *pictures, _printed(measured)]
    return "\n" + "\n".join(block for block in blocks if block) + "\n"


def _machine(measured: dict[str, Any]) -> str:
    it = measured["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in it["versions"].items())
    return (
        f"{measured['at'][:10]}, {it['processor']}, {it['cores']} cores, {it['memory_GB']:g} GB,"
        f" {it['file_system']}; Python {it['python']}, {versions}.\n"
    )


def _goals(judged: list[dict[str, Any]]) -> str:
    if not judged:
        return ""
    lines = ["| goal | wanted | measured | |", "|---|---:|---:|---|"]
    for goal in judged:
        wanted = f"≥ {goal['at_least']:g}" if "at_least" in goal else f"≤ {goal['at_most']:g}"
        met = "met" if goal["met"] else "**missed**"
        lines.append(f"| {goal['what']} | {wanted} | {goal['measured']:.3g} | {met} |")
    return "\n".join(lines) + "\n"


def _printed(measured: dict[str, Any]) -> str:
    lines = [line.rstrip() for line in measured["printed"].splitlines()]
    return "\n".join(["```text", *lines, "```"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
