"""Derive: the id of a job, from everything that makes its result this result."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from node.domain import PlannedJob, Priority, Role
from node.uids import derived_uuid
from pipelines.explain.explained import explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from node.domain import JobInput, StoredInstance
    from node.settings import Route, Settings
    from pipelines.contract import AnyPipeline


def input_digest(instances: Sequence[StoredInstance]) -> str:
    """Return one digest for a set of instances, whatever order they came in (hex)."""
    lines = sorted(f"{one.sop_instance_uid} {one.digest}\n" for one in instances)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_of(inputs: Mapping[str, Sequence[StoredInstance]]) -> str:
    """Return one digest for all inputs of a job: of one, that of its instances (hex)."""
    if inputs.keys() == {""}:
        return input_digest(inputs[""])
    lines = sorted(f"{name} {input_digest(instances)}\n" for name, instances in inputs.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def parameters_of(pipeline: AnyPipeline) -> str:
    """Return the parameters of a pipeline as one text, the same for the same parameters."""
    return json.dumps(dict(pipeline.parameters), sort_keys=True)


def priority_of(pipeline: AnyPipeline, routes: Iterable[Route]) -> Priority:
    """Return the most urgent that the routes or the pipeline itself ask for."""
    own = getattr(pipeline, "priority", "routine")
    return min(Priority[one.upper()] for one in (own, *(route.priority for route in routes)))


def as_asked(settings: Settings, pipeline: AnyPipeline, routes: Iterable[Route]) -> AnyPipeline:
    """Return a pipeline as routes ask for it: with saliency, if a destination of one takes maps."""
    for one in routes:
        receivers = [settings.destinations[name] for name in one.send_to]
        if one.explain and any(Role.MAP in receiver.roles for receiver in receivers):
            return explained(pipeline, one.explain)
    return pipeline


def derived_job(  # noqa: PLR0913 - all that makes a job this job
    pipeline: AnyPipeline,
    *,
    study_uid: str,
    series_uid: str,
    sop_instance_uid: str,
    revision: int,
    digest: str,
    priority: Priority,
    send_to: tuple[str, ...],
    inputs: tuple[JobInput, ...] = (),
) -> PlannedJob:
    """Return the job whose id the same input, pipeline and model always derive.

    Args:
        pipeline: What judges.
        study_uid: Of the study.
        series_uid: Of the one series that is judged; empty: those of ``inputs``.
        sop_instance_uid: Of the one instance that is judged; empty: all.
        revision: Of the series, or of the study; says nothing of the id.
        digest: Of the instances that are judged.
        priority: How urgent it is.
        send_to: Names of destinations.
        inputs: As ``PlannedJob.inputs``.
    """
    parameters = parameters_of(pipeline)
    identity = derived_uuid(
        "job",
        study_uid,
        series_uid or "several series",
        digest,
        pipeline.name,
        pipeline.version,
        pipeline.model.weights_sha256,
        parameters.replace("|", "\\u007c"),
    )
    return PlannedJob(
        id=identity.hex,
        study_uid=study_uid,
        series_uid=series_uid,
        sop_instance_uid=sop_instance_uid,
        revision=revision,
        pipeline=pipeline.name,
        pipeline_version=pipeline.version,
        model_sha256=pipeline.model.weights_sha256,
        parameters=parameters,
        input_digest=digest,
        priority=priority,
        deadline_s=pipeline.deadline_s,
        send_to=send_to,
        inputs=inputs,
    )
