"""A summary as one colour picture: a Secondary Capture (PS3.3 A.8.1), which every viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from node.domain import Role
from node.encode import identity
from node.encode.draw import content
from node.gate.burned_in import burned_in_annotation

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import Result


def encode_picture(source: Source, result: Result, work: Work) -> Dataset:
    """Return the findings with the images that show them best, on one page."""
    from node.encode.draw.render import picture  # noqa: PLC0415 - half a second, which only this needs

    pixels = picture(content.content(source, result, work))
    return _capture(pixels, source.instances, work)


def encode_refusal_picture(instances: tuple[Dataset, ...], reason: str, work: Work) -> Dataset:
    """Return a page that says why the study was not judged.

    Args:
        instances: Headers of what was received; at least one.
        reason: A sentence for a radiologist, without anything of the patient.
        work: The job.
    """
    from node.encode.draw.render import picture  # noqa: PLC0415 - as above

    return _capture(picture(content.refusal(reason, work)), instances, work)


def _capture(pixels: npt.NDArray[np.uint8], instances: tuple[Dataset, ...], work: Work) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = work.uid(Role.SC)
    dataset.SeriesInstanceUID = work.uid(f"{Role.SC}-series")
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.InstanceNumber = 1
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.Laterality = ""  # of both sides, where the study is of a paired part
    dataset.PatientOrientation = ""  # of a page
    dataset.BurnedInAnnotation = burned_in_annotation(instances)
    if "WaveformSequence" in instances[0] or instances[0].get("Modality") == "ECG":
        dataset.SourceInstanceSequence = list(references(instances))
    else:
        dataset.SourceImageSequence = list(references(instances))
    set_lossy(dataset, instances[0])
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.add_new("PixelData", "OB", pixels.tobytes())
    identity.stamp(dataset, instances[0], work, Role.SC)
    return dataset


def references(instances: Iterable[Dataset]) -> Iterable[Dataset]:
    """Yield an item that refers to each instance (PS3.3 table 10-11)."""
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.SOPClassUID
        item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        yield item


def set_lossy(dataset: Dataset, source: Dataset) -> None:
    """Say that pixels were once compressed with loss, and how (PS3.3 C.7.6.1.1.5)."""
    dataset.LossyImageCompression = "00"
    if source.get("LossyImageCompression") == "01":
        for keyword in (
            "LossyImageCompression",
            "LossyImageCompressionRatio",
            "LossyImageCompressionMethod",
        ):
            if keyword in source:
                setattr(dataset, keyword, source[keyword].value)
