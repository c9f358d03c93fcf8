"""The whole result as a document: an Encapsulated PDF (PS3.3 A.45.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from node.domain import Role
from node.encode import identity
from node.encode.draw import content
from node.encode.picture import references
from node.gate.burned_in import burned_in_annotation
from sr_templates import codes
from sr_templates.items import concept

if TYPE_CHECKING:
    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import Result


def encode_pdf(source: Source, result: Result, work: Work) -> Dataset:
    """Return every finding and the images that show them best, on as many pages as it takes."""
    from node.encode.draw.render import document  # noqa: PLC0415 - half a second, which only this needs

    return _encapsulated(document(content.content(source, result, work)), source.instances, work)


def encode_refusal_pdf(instances: tuple[Dataset, ...], reason: str, work: Work) -> Dataset:
    """Return a page that says why the study was not judged.

    Args:
        instances: Headers of what was received; at least one.
        reason: A sentence for a radiologist, without anything of the patient.
        work: The job.
    """
    from node.encode.draw.render import document  # noqa: PLC0415 - as above

    return _encapsulated(document(content.refusal(reason, work)), instances, work)


def _encapsulated(pdf: bytes, instances: tuple[Dataset, ...], work: Work) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.SOPInstanceUID = work.uid(Role.PDF)
    dataset.SeriesInstanceUID = work.uid(f"{Role.PDF}-series")
    dataset.Modality = "DOC"
    dataset.ConversionType = "WSD"
    dataset.InstanceNumber = 1
    dataset.BurnedInAnnotation = burned_in_annotation(instances)
    dataset.SourceInstanceSequence = list(references(instances))
    dataset.DocumentTitle = identity.series_description(work.title)
    ecg = work.report == "ecg_report"
    title = codes.ECG_REPORT if ecg else codes.DIAGNOSTIC_IMAGING_REPORT
    dataset.ConceptNameCodeSequence = [concept(title)]
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    dataset.EncapsulatedDocumentLength = len(pdf)
    identity.stamp(dataset, instances[0], work, Role.PDF)
    dataset.AcquisitionDateTime = ""  # of many images; type 2
    return dataset
