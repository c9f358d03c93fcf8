"""Which archive a job's earlier results are looked for in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node import route
from node.errors import NodeError
from node.priors.patient import CannotAsk
from node.settings import DimseDestination

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from node.settings import Settings


def archive_for(
    settings: Settings, pipeline: str, paths: Sequence[Path], calling_aes: Sequence[str]
) -> DimseDestination | None:
    """Return whom the routes that take a series name in ``priors_from``, as they are now.

    Args:
        settings: Of this node.
        pipeline: What the series goes through.
        paths: Its files.
        calling_aes: Who sent it.

    Returns:
        None where no route of the pipeline that takes it asks for a comparison.

    Raises:
        CannotAsk: The routes cannot be judged, or name more than one archive.
    """
    if not any(one.priors_from and pipeline in one.run for one in settings.routes):
        return None
    try:
        decisions = route.decide(settings, route.attributes_of(settings, paths, calling_aes))
    except NodeError as error:
        raise CannotAsk("this node cannot tell which archive to ask") from error
    routes = route.routes_by_name(settings)
    named = {
        routes[one.route].priors_from
        for one in decisions
        if one.taken and one.pipeline == pipeline and routes[one.route].priors_from
    }
    if len(named) > 1:
        raise CannotAsk("the routes of this study name more than one archive")
    asked = settings.destinations.get("".join(filter(None, named)))
    return asked if isinstance(asked, DimseDestination) else None
