"""A result as the objects that go to the PACS, for all that its destinations ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage

from node.domain import Role
from node.encode.contradictions import TEMPLATES, contradictions
from node.encode.derived.series import derived_series, grey_on_images
from node.encode.document import content_of, encode_document
from node.encode.key_objects import encode_key_objects, encode_rejection_note
from node.encode.parametric_map import encode_parametric_map, map_role
from node.encode.presentation import encode_presentation
from node.encode.segmentation import can_be_labelmap, encode_segmentation
from node.encode.work import Encoded, Work
from node.errors import GateClosed
from pipelines.codes import VOLUME
from pipelines.contract import Presence, Waveform
from sr_templates.chest_cad_report import chest_cad_report
from sr_templates.could_not_look import could_not_look
from sr_templates.encoded import element
from sr_templates.report import Report, SegmentReference, Subject
from sr_templates.text_report import text_report
from sr_templates.viewer_report import viewer_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np
    import numpy.typing as npt
    from pydicom import Dataset

    from node.load.source import Source
    from pipelines.contract import Finding, Measurement, Region, Result, Segment


_IN_3D = element("ValueType", "CS", "SCOORD3D")
"""A content item that only Comprehensive 3D SR may have (PS3.3 table A.35.3-2)."""


def encode(source: Source, result: Result, work: Work) -> tuple[Encoded, ...]:
    """Return the objects of a result, as ``each_encoded`` yields them."""
    return tuple(each_encoded(source, result, work))


def each_encoded(source: Source, result: Result, work: Work) -> Iterator[Encoded]:
    """Yield the objects of a result that ``work.roles`` asks for, none before what it refers to.

    The same source, result and work give the same bytes. The complete report is always among
    them, and the segmentation it refers to. An empty segment is not stored; the report says so.

    Raises:
        GateClosed: The result contradicts itself or its source.
    """
    problems = tuple(contradictions(source, result, work.report))
    if problems:
        raise GateClosed(problems)
    result = on_images(source, result)
    yield from _objects(source, result, work)


def encode_could_not_look(
    instances: tuple[Dataset, ...], reason: str, work: Work, beside: tuple[Dataset, ...] = ()
) -> tuple[Encoded, ...]:
    """Return the objects that say why the study was not judged.

    Args:
        instances: Headers of what was received, in any order; at least one.
        reason: A sentence for a radiologist, without anything of the patient.
        work: The job.
        beside: Headers of the other series, of a pipeline that needs several.
    """
    # They draw with matplotlib, which takes a second to import.
    from node.encode.pdf import encode_refusal_pdf  # noqa: PLC0415
    from node.encode.picture import encode_refusal_picture  # noqa: PLC0415

    ordered = tuple(sorted(instances, key=lambda instance: str(instance.SOPInstanceUID)))
    report = could_not_look(work.author, reason, about_waveform=work.report == "ecg_report")
    made = [Encoded(Role.SR, encode_document(report, ordered, beside, work))]
    if Role.SC in work.roles:
        made.append(Encoded(Role.SC, encode_refusal_picture(ordered, reason, work)))
    if Role.PDF in work.roles:
        made.append(Encoded(Role.PDF, encode_refusal_pdf(ordered, reason, work)))
    return tuple(made)


def within_images(source: Source, result: Result) -> Result:
    """Return a result without what lies beside the source's images, still on the volume's slices.

    There is more of these where the volume was straightened. What lies there cannot be stored: a
    volume then tells of what is, and a finding of which nothing is left is undecided.
    """
    return _cut(result, (source.within_images(one.mask) for one in result.segments))


def on_images(source: Source, result: Result) -> Result:
    """Return a result whose masks, maps, images and regions lie on the source's own images.

    They differ from the volume's slices where that was straightened; what lies beside the images
    is cut off, as by ``within_images``.
    """
    if not source.shifts_px:
        return result
    cut = _cut(result, (source.on_images(one.mask) for one in result.segments))
    return replace(
        cut,
        maps=tuple(replace(one, values=source.on_images(one.values)) for one in cut.maps),
        images=tuple(replace(one, values=grey_on_images(source, one.values)) for one in cut.images),
        findings=tuple(
            replace(one, regions=tuple(_moved(region, source) for region in one.regions))
            for one in cut.findings
        ),
    )


def _cut(result: Result, masks: Iterable[npt.NDArray[np.bool_]]) -> Result:
    """Return a result with these masks for its segments', of which some may have been cut off."""
    segments = tuple(
        replace(one, mask=mask) for one, mask in zip(result.segments, masks, strict=True)
    )
    kept = {
        before.label: float(after.mask.sum()) / max(float(before.mask.sum()), 1.0)
        for before, after in zip(result.segments, segments, strict=True)
    }
    lost = {one.label for one in result.segments if one.mask.any() and not kept[one.label]}
    return replace(
        result,
        segments=segments,
        findings=tuple(
            replace(
                one,
                presence=Presence.INDETERMINATE if one.segment in lost else one.presence,
                measurements=tuple(_restated(one.measurements, kept.get(one.segment or "", 1.0))),
            )
            for one in result.findings
        ),
        notes=(*result.notes, *(f"{label}: lies beside the images." for label in sorted(lost))),
    )


def _restated(measurements: Iterable[Measurement], kept: float) -> Iterator[Measurement]:
    for one in measurements:
        if (one.name.value, one.name.scheme) != (VOLUME.value, VOLUME.scheme):
            yield one
            continue
        lowest, highest = (
            None if bound is None else bound * kept for bound in (one.lowest, one.highest)
        )
        yield replace(one, value=one.value * kept, lowest=lowest, highest=highest)


def _moved(region: Region, source: Source) -> Region:
    """Return a region where it is on its image; what is beside the image stays so, to be told."""
    down, right = source.shifts_px[region.image]
    rows, columns = float(source.instances[0].Rows), float(source.instances[0].Columns)
    points = tuple(
        (_snapped(x - right, columns), _snapped(y - down, rows)) for x, y in region.points
    )
    return replace(region, points=points)


def _snapped(at: float, edge: float) -> float:
    """Return a place as it is, or on the edge that it is beyond by no more than a pixel.

    The slices were moved by parts of a pixel, so that a region along an edge may be.
    """
    within = min(max(at, 0.0), edge)
    return within if abs(at - within) <= 1.0 else at


def _objects(source: Source, result: Result, work: Work) -> Iterator[Encoded]:
    outlined = tuple(segment for segment in result.segments if segment.mask.any())
    segmentations = dict(_segmentations(source, outlined, result.findings, work))
    maps = dict(_maps(source, result, work))
    for role, dataset in (*segmentations.items(), *maps.items()):
        yield Encoded(role, dataset)
    for number, images in enumerate(result.images if Role.IMAGES in work.roles else (), start=1):
        yield from derived_series(source, images, number, work)
    subjects = {
        role: _subject(source, work, outlined, segmentation)
        for role, segmentation in segmentations.items()
    }
    bare = _subject(source, work, (), None)
    for role, report in _complete_reports(subjects, bare, result, work):
        refers_to = segmentations.get(Role.LABELMAP if role == Role.LABELMAP_SR else Role.SEG)
        made = (*(() if refers_to is None else (refers_to,)), *maps.values())
        rests_on = (*source.beside, *made)
        yield Encoded(role, encode_document(report, source.instances, rests_on, work, role))
    for role, template in _SHORTER_REPORTS.items():
        shorter = template(bare, result) if role in work.roles else None
        if shorter is not None:
            document = encode_document(shorter, source.instances, source.beside, work, role)
            yield Encoded(role, document)
    yield from _for_viewers(source, result, work)
    if Role.REJECTION in work.roles and work.rejected:
        note = encode_rejection_note(source.instances, work.rejected, work)
        yield Encoded(Role.REJECTION, note)


def _segmentations(
    source: Source, outlined: tuple[Segment, ...], findings: tuple[Finding, ...], work: Work
) -> Iterator[tuple[Role, Dataset]]:
    if outlined:
        yield Role.SEG, encode_segmentation(source, outlined, work, Role.SEG, findings)
        if Role.LABELMAP in work.roles and can_be_labelmap(outlined):
            label_map = encode_segmentation(source, outlined, work, Role.LABELMAP, findings)
            yield Role.LABELMAP, label_map


def _maps(source: Source, result: Result, work: Work) -> Iterator[tuple[str, Dataset]]:
    for number, one in enumerate(result.maps if Role.MAP in work.roles else (), start=1):
        dataset = encode_parametric_map(source, one, number, work)
        if dataset is not None:
            yield map_role(number), dataset


def _subject(
    source: Source, work: Work, outlined: tuple[Segment, ...], segmentation: Dataset | None
) -> Subject:
    """Return what a report is about, and where its outlines are stored, if it may refer to them."""
    tracking = {segment.label: work.tracking_uid(segment) for segment in outlined}
    return Subject(
        instances=source.instances,
        study=source.study,
        author=work.author,
        tracking_uid=lambda label: tracking.get(label) or work.uid(f"tracking-{label}"),
        segments={}
        if segmentation is None
        else {
            segment.label: SegmentReference(
                str(segmentation.SOPClassUID), str(segmentation.SOPInstanceUID), number
            )
            for number, segment in enumerate(outlined, start=1)
        },
        frame_numbers=source.frame_numbers,
        beside=source.beside,
    )


def _complete_reports(
    subjects: Mapping[Role, Subject], bare: Subject, result: Result, work: Work
) -> Iterator[tuple[Role, Report]]:
    template = TEMPLATES[work.report]
    subject = subjects.get(Role.SEG, bare)
    report = template(subject, result)
    yield Role.SR, report
    if Role.LABELMAP in subjects:
        yield Role.LABELMAP_SR, template(subjects[Role.LABELMAP], result)
    in_3d = report.sop_class_uid == Comprehensive3DSRStorage
    if Role.COMPREHENSIVE_SR in work.roles and in_3d and _IN_3D not in content_of(report):
        yield Role.COMPREHENSIVE_SR, replace(report, sop_class_uid=ComprehensiveSRStorage)


def _cad_report(subject: Subject, result: Result) -> Report | None:
    return None if isinstance(subject.study, Waveform) else chest_cad_report(subject, result)


_SHORTER_REPORTS: Mapping[Role, Callable[[Subject, Result], Report | None]] = {
    Role.VIEWER_SR: viewer_report,
    Role.TEXT_SR: text_report,
    Role.CAD_SR: _cad_report,
}
"""Reports that refer to nothing but the source."""


def _for_viewers(source: Source, result: Result, work: Work) -> Iterator[Encoded]:
    """Yield what a viewer draws or shows that knows neither segmentations nor reports."""
    # Some draw with matplotlib, which takes a second to import.
    from node.encode.pdf import encode_pdf  # noqa: PLC0415
    from node.encode.picture import encode_picture  # noqa: PLC0415

    encoders: dict[Role, Callable[[Source, Result, Work], Dataset | None]] = {
        Role.GSPS: encode_presentation,
        Role.KO: encode_key_objects,
        Role.SC: encode_picture,
        Role.PDF: encode_pdf,
    }
    for role, encoder in encoders.items():
        dataset = encoder(source, result, work) if role in work.roles else None
        if dataset is not None:
            yield Encoded(role, dataset)
