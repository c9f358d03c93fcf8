"""What every report says around its findings: language, observer, algorithm, plain words."""

from __future__ import annotations

from typing import Any

from highdicom import sr

from pipelines.contract import Finding, Measurement, Presence, Result
from sr_templates import codes, items
from sr_templates.report import NOT_FOR_DIAGNOSIS, Author

PRESENCE_CODES = {
    Presence.PRESENT: codes.PRESENT,
    Presence.ABSENT: codes.ABSENT,
    Presence.INDETERMINATE: codes.PRESENCE_UNDETERMINED,
}


def language() -> list[Any]:
    """Return TID 1204: the report is in English."""
    return list(sr.LanguageOfContentItemAndDescendants(items.concept(codes.ENGLISH)))


def observer(author: Author) -> Any:
    """Return TID 1001 and 1003: a device observed, and it is this model."""
    model = author.model
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=author.device_uid,
        name=model.name,
        manufacturer_name=model.maker,
        model_name=f"{model.name} {model.version}",
        serial_number=model.weights_sha256,
    )
    return sr.ObserverContext(
        observer_type=sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=device,
    )


def algorithm(author: Author) -> Any:
    """Return TID 4019, with the digest of the weights and the pipeline among its parameters."""
    model = author.model
    return sr.AlgorithmIdentification(
        name=model.name,
        version=model.version,
        manufacturer=model.maker,
        parameters=[
            f"pipeline={author.pipeline}",
            f"weights_sha256={model.weights_sha256}",
            *(f"{name}={value}" for name, value in sorted(author.parameters.items())),
        ],
    )


def certainty(finding: Finding, relation: Any = items.CONTAINS) -> list[Any]:
    """Return the model's own probability in percent, if it gave one (CID 6048).

    Of what is said: that the finding is there, or that it is not. Undecided, it is no
    certainty but the plain probability that the finding is there.
    """
    if finding.confidence is None:
        return []
    undecided = finding.presence is Presence.INDETERMINATE
    name = codes.PROBABILITY if undecided else codes.CERTAINTY_OF_FINDING
    return [items.number(name, round(100.0 * finding.confidence, 2), "%", relation)]


def measured(measurement: Measurement, relation: Any = items.CONTAINS) -> Any:
    """Return a measurement, its method, which statistic it is, and its interval (TID 300)."""
    modifiers = [
        items.code(name, code, items.HAS_CONCEPT_MOD)
        for name, code in (
            (codes.MEASUREMENT_METHOD, measurement.method),
            (codes.DERIVATION, measurement.derivation),
        )
        if code is not None
    ]
    return items.number(
        measurement.name,
        float(measurement.value),
        measurement.unit,
        relation,
        [*modifiers, *_uncertainty(measurement)],
    )


def _uncertainty(measurement: Measurement) -> list[Any]:
    """Return how far below and above the value the interval reaches (TID 310, CID 225)."""
    bounds = (
        (codes.LOWER_UNCERTAINTY, measurement.lowest),
        (codes.UPPER_UNCERTAINTY, measurement.highest),
    )
    return [
        items.number(name, abs(bound - measurement.value), measurement.unit, items.HAS_PROPERTIES)
        for name, bound in bounds
        if bound is not None
    ]


def statement(finding: Finding) -> str:
    """Return a finding as a sentence that cannot be read as its opposite."""
    words, measure = {
        Presence.PRESENT: ("present", "certainty"),
        Presence.ABSENT: ("looked for, not found", "certainty of absence"),
        Presence.INDETERMINATE: ("looked for, undecided", "probability of presence"),
    }[finding.presence]
    sure = "" if finding.confidence is None else f", {measure} {100.0 * finding.confidence:.1f} %"
    name = finding.finding.meaning
    if finding.presence is Presence.ABSENT and finding.tracking_uid and finding.segment is None:
        # One of several may be gone: nobody shall read that there is none.
        name, words = f"{name} of an earlier study", "not found any more"
    place = f" ({finding.segment})" if finding.segment not in (None, name) else ""
    return f"{name}{place}: {words}{sure}."


def place(finding: Finding) -> list[str]:
    """Return where a finding is, as a sentence; none where that is not known."""
    if finding.site is None:
        return []
    side = "" if finding.laterality is None else f", {finding.laterality.meaning.lower()}"
    return [f"Site: {finding.site.meaning}{side}."]


def summary(result: Result) -> list[str]:
    """Return the whole result in sentences, the pipeline's own notes last."""
    said = [statement(finding) for finding in result.findings]
    mentioned = {finding.segment for finding in result.findings}
    said += [
        f"Outlined: {segment.label}."
        for segment in result.segments
        if segment.label not in mentioned and segment.mask.any()
    ]
    empty = [
        f"Nothing was outlined as {segment.label!r}: the segment is empty and is not stored."
        for segment in result.segments
        if not segment.mask.any()
    ]
    return [*(said or ["Analysed; nothing was found."]), *empty, *result.notes]


def provenance(author: Author) -> list[str]:
    """Return who made it, from what, and what it is not for."""
    model = author.model
    lines = [
        f"{NOT_FOR_DIAGNOSIS} {model.name} {model.version} by {model.maker}.",
        f"Trained on: {model.trained_on}",
    ]
    return [*lines, f"See: {model.citation}"] if model.citation else lines
