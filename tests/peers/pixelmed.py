"""PixelMed's SR validator, the one IHE connectathons use: it alone knows the templates.

Debian's build of 2022 calls three things errors that are none. Nothing else is passed over:

- TID 310, which TID 300 and TID 1419 include, states the bounds of a measurement as NUM items in
  HAS PROPERTIES. The same templates have rows for a NUM of any name that a measurement is
  inferred from; the validator holds the bounds against those and misses INFERRED FROM.
- In a report whose groups follow different templates it holds each group against all of them:
  one that refers to a segment "lacks" the image region of TID 1410, and so on. A group's own
  template counts, and so does everything said of a report whose groups are of one kind.
- TID 2010 wants a modifier of a title Rejected for Quality Reasons. The validator looks for that
  title among the names of the items below, never finds it there, and objects to the modifier.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset, dcmread

from sr_templates import codes
from sr_templates.tree import children_named, is_named, walk

if TYPE_CHECKING:
    from collections.abc import Iterable

JAR = Path("/usr/share/java/pixelmed.jar")
LAUNCHER = Path(__file__).with_name("PixelMed.java")

_NO_LIMITS = tuple(
    f"-Djdk.xml.xpath{limit}=0" for limit in ("TotalOpLimit", "ExprGrpLimit", "ExprOpLimit")
)
"""Its rules are larger than Java 17 lets a stylesheet be."""

_QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Its rules are compiled and run once; to optimise them takes longer than it saves."""

_BOUNDS = re.compile(
    r"Template (300|1419) .*/NUM \((371885007|371886008),SCT,[^/]*\): "
    r"Incorrect relationship - expected INFERRED FROM - found HAS PROPERTIES$"
)
_TITLE_MODIFIER = re.compile(
    r"Template 2010 .*\[Row [34]\] CODE CID 701[12]: within 1: /CONTAINER \(113001,DCM,[^/]*\): "
    r"Conditional content item present when condition not satisfied$"
)
_OF_A_TEMPLATE = re.compile(
    r"Template (1410|1411) .*within (\d+(?:\.\d+)*): .*: Missing conditional content item$"
)


def why_missing() -> str:
    """Return a reason to skip, empty when it can run."""
    if shutil.which("java") is None:
        return "not installed: java (default-jre-headless)"
    return "" if JAR.exists() else "not installed: PixelMed (libpixelmed-java)"


def pixelmed(paths: Iterable[Path]) -> dict[Path, tuple[str, ...]]:
    """Errors of PixelMed on structured reports and key objects, in one JVM a core of two."""
    wanted = list(paths)
    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(_errors, (wanted[::2], wanted[1::2])))
    return halves[0] | halves[1]


def _errors(wanted: list[Path]) -> dict[Path, tuple[str, ...]]:
    said: dict[Path, list[str]] = {path: ["was not validated"] for path in wanted}
    lines: list[str] = []
    for line in _run(wanted):
        if line.startswith("File: "):
            lines = said[Path(line.removeprefix("File: "))]
            lines.clear()
        elif line.startswith("Error"):
            lines.append(line)
    return {
        path: tuple(dict.fromkeys(line for line in found if not _is_none(line, path)))
        for path, found in said.items()
    }


def _run(paths: list[Path]) -> list[str]:
    if not paths:
        return []
    done = subprocess.run(
        ["java", *_QUICK_START, *_NO_LIMITS, "-cp", str(JAR), str(LAUNCHER), *map(str, paths)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        timeout=300,
    )
    return done.stdout.decode("utf-8", errors="replace").splitlines()


def _is_none(line: str, path: Path) -> bool:
    if _BOUNDS.search(line) or _TITLE_MODIFIER.search(line):
        return True
    found = _OF_A_TEMPLATE.search(line)
    return found is not None and _is_of_another_kind(dcmread(path), found[1], found[2])


def _is_of_another_kind(report: Dataset, template: str, place: str) -> bool:
    """Say whether a group of a mixed report follows another template than ``template``."""
    groups = [item for item in walk(report) if is_named(item, codes.MEASUREMENT_GROUP)]
    node = report
    for number in place.split(".")[1:]:
        node = node.ContentSequence[int(number) - 1]
    return len(set(map(_template_of, groups))) > 1 and _template_of(node) != template


def _template_of(group: Dataset) -> str:
    if children_named(group, codes.REFERENCED_SEGMENT):
        return "1411"
    regions = (child.get("ValueType") == "SCOORD" for child in group.ContentSequence)
    return "1410" if any(regions) else "1501"
