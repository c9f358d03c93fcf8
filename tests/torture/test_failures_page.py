"""docs/failures.md names tests and subjects that there are, for every row."""

from __future__ import annotations

import re

from tests.peers import REPOSITORY
from tests.torture.document import SUBJECTS

PAGE = (REPOSITORY / "docs" / "failures.md").read_text()
ROWS = dict(re.findall(r"^\| ([CD]\d+) (\|.*)$", PAGE, re.MULTILINE))


def test_every_row_has_its_behaviour_and_names_a_test_or_a_subject():
    assert [*ROWS] == [f"C{n}" for n in range(1, 21)] + [f"D{n}" for n in range(1, 26)]
    for row in ROWS.values():
        cells = [cell.strip() for cell in row.strip(" |").split("|")]
        assert len(cells) == 3
        assert all(cells)
        assert "`test_" in cells[-1] or "subject" in cells[-1]


def test_what_the_page_names_exists():
    tests = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []
    subjects = re.findall(r"subjects? ([\w, ]+?)[,;]? (?:\||by )", PAGE)
    assert {name for one in subjects for name in one.split(", ")} <= set(SUBJECTS)
