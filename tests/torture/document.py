"""``python -m tests.torture.document``: write docs/reliability.md from build/torture/torture.json.

Only what stands between the markers of a subject is replaced; the prose around it is written by
hand.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from tests.peers import REPOSITORY
from tests.torture import goals
from tests.torture.__main__ import JSON, SUBJECTS

__all__ = ["PAGE", "SUBJECTS", "main", "section"]

PAGE = REPOSITORY / "docs" / "reliability.md"
ESCAPED = "\\|"
"""A bar that ends no cell."""
_SECTION = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Replace every section whose subject was measured."""
    subjects: dict[str, Any] = json.loads(JSON.read_text())

    def written(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        return begin + section(subjects[name]) + end if name in subjects else found.group()

    PAGE.write_text(_SECTION.sub(written, PAGE.read_text()))
    return 0


def section(result: dict[str, Any]) -> str:
    """Return what stands between the markers of one subject."""
    it = result["machine"]
    ran = f"{result['at'][:10]}, {it['processor']}, {it['cores']} cores"
    lines = [f"{ran}; seed {result['seed']}, {result['took_s']:.0f} s.", ""]
    if result["failed"]:
        lines += [f"**Not measured**: {result['failed']}", ""]
    if result["figures"]:
        lines += ["| figure | measured | wanted | |", "|---|---:|---:|---|", *_rows(result), ""]
    return "\n" + "\n".join(lines)


def _rows(result: dict[str, Any]) -> list[str]:
    rows = []
    for figure in result["figures"]:
        met = "met" if goals.wanted(figure) else ""
        said = [met if figure["met"] else "**missed**", figure["note"]]
        cells = (
            figure["what"],
            goals.measured(figure),
            goals.wanted(figure),
            "; ".join(filter(None, said)),
        )
        rows.append(f"| {' | '.join(cell.replace('|', ESCAPED) for cell in cells)} |")
    return rows


if __name__ == "__main__":
    sys.exit(main())
