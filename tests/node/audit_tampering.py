"""Tampering with an audit trail, in every way that whoever has the disk but not the key can."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from node.audit import records
from node.audit.records import Head, segments
from tests.node.trails import body, lines_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from node.audit.chain import Places

    Mutation = Callable[[Places, Places, random.Random], None]
    """Of a trail, with another trail of other content and key at hand."""


def rewritten(places: Places, lines: list[bytes]) -> None:
    """Put lines into the segments in the stead of theirs, as many into each as there were."""
    for path in segments(places.folder):
        count = len(path.read_bytes().splitlines())
        last = path == segments(places.folder)[-1]
        mine, lines = (lines, []) if last else (lines[:count], lines[count:])
        path.write_bytes(b"".join(mine))


def flip(places: Places, stranger: Places, chance: random.Random) -> None:
    kept = [path for path in segments(places.folder) if path.stat().st_size]
    path = chance.choice([*kept, *kept, places.key, *places.heads])
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def delete(places: Places, stranger: Places, chance: random.Random) -> None:
    lines = lines_of(places)
    first = chance.randrange(len(lines))
    del lines[first : first + chance.randint(1, 5)]
    rewritten(places, lines)


def reorder(places: Places, stranger: Places, chance: random.Random) -> None:
    lines = lines_of(places)
    one, other = chance.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    rewritten(places, lines)


def truncate(places: Places, stranger: Places, chance: random.Random) -> None:
    paths = segments(places.folder)
    keep = chance.randrange(len(paths))
    for path in paths[keep + 1 :]:
        path.unlink()
    content = paths[keep].read_bytes()
    ends = [n + 1 for n, byte in enumerate(content[:-1]) if byte == ord("\n")]
    at = chance.choice(ends) if ends and chance.random() < 0.5 else chance.randrange(len(content))
    paths[keep].write_bytes(content[:at])


def insert(places: Places, stranger: Places, chance: random.Random) -> None:
    lines = lines_of(places)
    forged = records.sealed(b"a guess", Head(7, "0" * 64), body(8))[1]
    place = chance.randint(0, len(lines))
    new = chance.choice([chance.choice(lines), forged, b"\n", lines_of(stranger)[place - 1]])
    lines.insert(place, new)
    rewritten(places, lines)


def replace(places: Places, stranger: Places, chance: random.Random) -> None:
    lines, others = lines_of(places), lines_of(stranger)
    first = chance.randrange(len(lines))
    last = chance.choice([first + 1, len(lines)])
    lines[first:last] = others[first:last]
    rewritten(places, lines)


def edit(places: Places, stranger: Places, chance: random.Random) -> None:
    """Change what a record says, and leave its seal."""
    lines = lines_of(places)
    number = chance.randrange(len(lines))
    lines[number] = lines[number].replace(b'"pacs"', b'"pacz"')
    rewritten(places, lines)


def lose_a_file(places: Places, stranger: Places, chance: random.Random) -> None:
    chance.choice([*segments(places.folder), places.key, *places.heads]).unlink()


def exchange_files(places: Places, stranger: Places, chance: random.Random) -> None:
    one, other = chance.sample(segments(places.folder), 2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def renumber(places: Places, stranger: Places, chance: random.Random) -> None:
    path = chance.choice(segments(places.folder))
    path.rename(records.segment(places.folder, chance.randint(100_000, 999_999)))


def take_anothers_head(places: Places, stranger: Places, chance: random.Random) -> None:
    shutil.copyfile(stranger.heads[0], chance.choice(places.heads))


MUTATIONS: tuple[Mutation, ...] = (
    flip,
    flip,
    delete,
    reorder,
    truncate,
    insert,
    replace,
    edit,
    lose_a_file,
    exchange_files,
    renumber,
    take_anothers_head,
)


def contents(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def restore(folder: Path, original: dict[Path, bytes], now: dict[Path, bytes]) -> None:
    for path in now.keys() | original.keys():
        if path not in original:
            (folder / path).unlink()
        elif now.get(path) != original[path]:
            (folder / path).write_bytes(original[path])
