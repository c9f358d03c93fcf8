"""What is put together as bytes is, to the byte, what pydicom makes of the same items."""

from __future__ import annotations

import pytest
from highdicom import sr
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

from node.domain import Role
from node.encode.document import encode_document
from node.encode.objects import encode
from pipelines.contract import Code, Result
from sr_templates import codes, encoded, items
from sr_templates.measurement_report import measurement_report
from sr_templates.report import Subject
from sr_templates.tree import code_of, name_of, walk
from tests.sr_templates import made

QUESTION = Code("1", "99TEST", "Frage")


def by_pydicom(*datasets: Dataset) -> bytes:
    """Return the value of a sequence of these items."""
    holder = Dataset()
    holder.ContentSequence = list(datasets)
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = False, True
    write_dataset(file, holder, "utf8")
    return file.getvalue()[12:]


def every_kind() -> list[Dataset]:
    """Content items, and one of the values that these do not have."""
    rare = Dataset()
    rare.ReferencedFrameNumber = [1, 2, 3]
    rare.GraphicData = [1.5, 2.5]
    rare.ReferencedSegmentNumber = 7
    rare.PatientName = "Müller^Änne"
    rare.TextValue = ""
    rare.ImageType = ["DERIVED", "PRIMARY"]
    rare.ConceptCodeSequence = []
    return [
        items.container(
            codes.IMAGE_LIBRARY,
            [
                items.code(QUESTION, codes.PRESENT, children=[items.text(QUESTION, "Ödem, 3 µm")]),
                items.uid(codes.TRACKING_UID, "1.2.3"),
                items.number(QUESTION, 1.25, "mm"),
            ],
            template="1600",
        ),
        rare,
    ]


def test_items_are_encoded_as_pydicom_encodes_them():
    assert encoded.items_of(every_kind()) == by_pydicom(*every_kind())


def test_what_is_encoded_already_stays_as_it_is():
    outer = Dataset()
    encoded.set_items(outer, "ContentSequence", encoded.items_of(every_kind()))
    plain = Dataset()
    plain.ContentSequence = every_kind()
    assert encoded.items_of([outer]) == by_pydicom(plain)


def test_an_image_of_the_library_is_as_highdicom_writes_it():
    source = made.classic()
    (report, *_) = (
        one.dataset for one in encode(source, Result(), made.work()) if one.role == "sr"
    )
    images = [item for item in walk(report) if item.ValueType == "IMAGE"]
    theirs = [
        sr.ImageContentItem(
            items.concept(codes.SOURCE),
            referenced_sop_class_uid=instance.SOPClassUID,
            referenced_sop_instance_uid=instance.SOPInstanceUID,
            relationship_type="CONTAINS",
        )
        for instance in source.instances
    ]
    assert by_pydicom(*images) == by_pydicom(*theirs)


@pytest.mark.parametrize("ending", [b"", b"\0", b" "])
def test_a_uid_is_the_same_parsed_or_not(ending):
    dataset = Dataset()
    encoded.set_items(dataset, "SOPInstanceUID", b"1.2.34" + ending)
    raw = dataset.get_item(Tag("SOPInstanceUID"))
    dataset[raw.tag] = raw._replace(VR="UI")
    assert encoded.uid_in(dataset, "SOPInstanceUID") == b"1.2.34"
    assert dataset.SOPInstanceUID.rstrip() == "1.2.34"
    assert encoded.uid_in(dataset, "SOPInstanceUID") == b"1.2.34"


def test_two_documents_of_one_tree_say_the_same():
    source, work = made.classic(), made.work()
    report = made_report(source, work)
    first, second = (
        encode_document(report, source.instances, (), work, role)
        for role in (Role.SR, Role.VIEWER_SR)
    )
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert [*map(name_of, walk(first))] == [*map(name_of, walk(second))]
    assert len([*walk(first)]) > made.SHAPE[0]


def made_report(source, work):
    subject = Subject(source.instances, source.study, work.author, work.uid)
    return measurement_report(subject, Result())


@pytest.mark.parametrize(("encoding", "meaning"), [("utf8", "Ödem"), ("iso8859", "Ã\x96dem")])
def test_a_name_is_read_in_the_character_set_around_it(encoding, meaning):
    """The same bytes are another name elsewhere: what is remembered of one is not told of it."""
    item = Dataset()
    name = items.concept(Code("1", "99TEST", "Ödem"))
    encoded.set_items(item, "ConceptNameCodeSequence", encoded.items_of([name]))
    item.set_original_encoding(False, True, encoding)
    assert name_of(item).meaning == meaning
    assert code_of(item.ConceptNameCodeSequence[0]).meaning == meaning
