"""Route: which pipelines a series goes through, where results go, and why, or why not."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pydicom.multival import MultiValue

from node import part10
from node.errors import ConfigError, UnreadableSeries
from node.load.headers import groups, technical_attributes
from node.load.source import read_headers
from node.malformed import MALFORMED
from pipelines import models, registry
from pipelines.runtimes.manifest import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.settings import Patterns, Route, Settings
    from pipelines.contract import AnyPipeline

CALLING_AE_TITLE = "CallingAETitle"
"""Not an attribute of the instance, but of the association that brought it."""

_PIXELS = 0x7FE00008
"""Float, Double Float and plain Pixel Data begin here; what routes look at comes before."""


@dataclass(frozen=True)
class Condition:
    """One line of a ``match`` table, and what the series says to it.

    Attributes:
        values: Every different value that any instance of the series has.
    """

    keyword: str
    patterns: tuple[str, ...]
    values: tuple[str, ...]
    holds: bool


@dataclass(frozen=True)
class Decision:
    """What one route, and one input of a pipeline of it, says to one series.

    Attributes:
        input: Name of the input; empty where the pipeline judges single series.
    """

    route: str
    pipeline: str
    input: str
    of_route: tuple[Condition, ...]
    of_pipeline: tuple[Condition, ...]

    @property
    def taken(self) -> bool:
        """Whether every condition holds."""
        return all(condition.holds for condition in (*self.of_route, *self.of_pipeline))


Attributes = dict[str, frozenset[str]]


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    wildcards = {"*": ".*", "?": "."}
    return re.compile(
        "".join(wildcards.get(c) or re.escape(c) for c in pattern), re.IGNORECASE | re.DOTALL
    )


def _holds(pattern: str, values: Iterable[str]) -> bool:
    """Whether a value matches; for ``!pattern``, whether none does."""
    if pattern.startswith("!"):
        return not _holds(pattern[1:], values)
    return any(_expression(pattern).fullmatch(value) for value in values)


def conditions(match: Patterns, attributes: Attributes) -> tuple[Condition, ...]:
    """Judge each line of a ``match`` table. An absent attribute matches only a ``!`` pattern.

    Of several alternatives one must hold; of several with ``!`` all must.
    """
    judged = []
    for keyword, stated in match.items():
        patterns = (stated,) if isinstance(stated, str) else tuple(stated)
        values = attributes.get(keyword, frozenset())
        wanted = [p for p in patterns if not p.startswith("!")]
        unwanted = [p for p in patterns if p.startswith("!")]
        holds = (not wanted or any(_holds(p, values) for p in wanted)) and all(
            _holds(p, values) for p in unwanted
        )
        judged.append(Condition(keyword, patterns, tuple(sorted(values)), holds))
    return tuple(judged)


def read_attributes(paths: Iterable[Path], keywords: Iterable[str]) -> Attributes:
    """Return every different value of ``keywords`` over all instances of a series.

    A value that is not what its VR allows, and cannot be understood, counts as absent.

    Raises:
        UnreadableSeries: A file is not there, or is no DICOM file.
    """
    keywords, paths = set(keywords), list(paths)
    seen_by = {one for one in keywords if one.startswith(registry.SEEN_BY)}
    tags = sorted(keywords - seen_by - {CALLING_AE_TITLE})
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in paths:
        try:
            header = part10.read(path, stop_at=_PIXELS)
        except (OSError, *MALFORMED) as error:
            raise UnreadableSeries(
                f"A file of this series cannot be read ({type(error).__name__}).",
                do=f"Check the disk, and {path.name} on it.",
            ) from error
        for keyword in tags:
            found[keyword].update(_values(header, keyword))
    if seen_by:
        with suppress(*MALFORMED):  # then it is seen as nothing
            (first,) = read_headers(paths[:1])
            technical = technical_attributes(list(groups(first, 0)))
            for keyword in seen_by:
                found[keyword].update(filter(None, [registry.input_seen(keyword, technical)]))
    return {keyword: frozenset(values) for keyword, values in found.items() if values}


def _values(header: Dataset, keyword: str) -> Iterator[str]:
    try:
        value = header.get(keyword)
    except MALFORMED:
        return
    several = value if isinstance(value, MultiValue | list) else [value]
    yield from (str(one) for one in several if one is not None and one != "")


def pipeline(name: str) -> AnyPipeline:
    """Return a pipeline of a route.

    Raises:
        ConfigError: It is not there, lacks a package, or is not the model that was added.
    """
    try:
        return registry.get(name)
    except registry.UnknownPipeline:
        known = ", ".join(registry.names()) or "none"
        raise ConfigError(
            f"No pipeline is called '{name}'.",
            do=f"Install the package that brings it, or use one of: {known}.",
        ) from None
    except (models.ModelChanged, ManifestError) as error:
        raise ConfigError(
            f"The model '{name}' cannot be used as it lies there.",
            do=f"{error} Remove and add it again: radnode models remove {name}.",
        ) from error
    except ImportError as error:
        raise ConfigError(
            f"Pipeline '{name}' needs {error.name}, which is not installed.",
            do="Install radnode with its models: pipx install 'radnode[models]'.",
        ) from error


def keywords(settings: Settings) -> frozenset[str]:
    """Return every attribute that some route or pipeline looks at."""
    looked_at: set[str] = set()
    for route in settings.routes:
        looked_at.update(route.match)
        for name in route.run:
            for patterns in registry.inputs_of(pipeline(name)).values():
                looked_at.update(patterns)
    return frozenset(looked_at)


def name_of(route: Route, number: int) -> str:
    """Return how people call a route: its name, or its place in the file."""
    return route.name or f"routes[{number}]"


def decide(settings: Settings, attributes: Attributes) -> tuple[Decision, ...]:
    """Return what every route and each input of its pipelines says to one series."""
    return tuple(
        Decision(
            name_of(route, number),
            name,
            input_name,
            conditions(route.match, attributes),
            conditions(patterns, attributes),
        )
        for number, route in enumerate(settings.routes, start=1)
        for name in route.run
        for input_name, patterns in registry.inputs_of(pipeline(name)).items()
    )


def routes_by_name(settings: Settings) -> Mapping[str, Route]:
    """Return the routes under the names that decisions carry."""
    return {name_of(route, n): route for n, route in enumerate(settings.routes, start=1)}


def attributes_of(
    settings: Settings,
    paths: Sequence[Path],
    calling_aes: Sequence[str],
    also: Iterable[str] = (),
) -> Attributes:
    """Return what a series says to the keywords that the configuration looks at, and to others."""
    attributes = read_attributes(paths, keywords(settings).union(also))
    attributes[CALLING_AE_TITLE] = frozenset(calling_aes)
    return attributes
