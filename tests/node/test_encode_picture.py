"""The picture and the document of a result: what is on them, where, and what never is."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import dcmread

from node.encode.draw import content, render, views
from node.encode.draw.page import Page, width
from node.encode.parametric_map import encode_parametric_map
from node.encode.pdf import encode_pdf, encode_refusal_pdf
from node.encode.picture import encode_picture, encode_refusal_picture
from node.encode.presentation import encode_presentation
from node.encode.write import write
from pipelines import codes
from pipelines.contract import (
    Code,
    Finding,
    Graphic,
    Measurement,
    ParametricMap,
    Presence,
    Region,
    Result,
    Segment,
    Volume,
    Waveform,
)
from tests.node import shown
from tests.peers import dcmtk, require, validators
from tests.peers.orthanc import orthanc
from tests.sr_templates import made

if TYPE_CHECKING:
    from node.load.source import Source

MAGENTA = (255, 0, 255)
CIRCLE = Region(0, Graphic.CIRCLE, ((20.0, 20.0), (28.0, 20.0)))
IDENTITY = ("Müller", "Änne", "P-1", "A-9", "Kopf", "1960")


def bright_block() -> tuple[Source, Result]:
    """Bright where the mask is, black elsewhere: the outline must run where they meet."""
    source = made.classic()
    voxels = made.mask().astype(np.float32) * 1000.0
    source = replace(source, study=Volume(voxels, source.study.grid))
    segment = Segment("Block", codes.TISSUE, codes.BRAIN, made.mask(), MAGENTA)
    return source, Result(segments=(segment,))


def many(count: int) -> Result:
    volume = Measurement(codes.VOLUME, 12.3456, "mL", lowest=11.0, highest=13.0)
    long = Code("1", "99TEST", "Probability of something with a very long name " * 2)
    probability = Measurement(long, 0.5, "1", method=Code("2", "99TEST", "long method " * 9))
    return Result(
        findings=tuple(
            Finding(codes.NODULE, confidence=0.9, measurements=(volume, probability))
            for _ in range(count)
        ),
        notes=("A sentence that goes on and on. " * 20, "Unbroken" * 60, "Costs $5 or $6_x."),
    )


@pytest.fixture
def written(monkeypatch) -> list[tuple[float, float, str, float]]:
    """All text that is drawn: right end, baseline, words, and size of each."""
    texts = []
    draw = Page.text

    def record(self, place, text, size, color=None, *, bold=False):
        texts.append((place[0] + width(text, size, bold=bold), place[1], text, size))
        draw(self, place, text, size, color, bold=bold)

    monkeypatch.setattr(Page, "text", record)
    return texts


def words(written) -> str:
    return " ".join(text for _, _, text, _ in written)


def pages_of(document, folder) -> str:
    """Return the text of a document, as poppler reads it."""
    (folder / "document.pdf").write_bytes(document.EncapsulatedDocument)
    done = subprocess.run(
        [require("pdftotext"), "-layout", folder / "document.pdf", "-"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    return " ".join(done.stdout.split())


def every_kind() -> dict[str, tuple[Source, Result]]:
    lesion = Finding(codes.OPACITY, regions=(CIRCLE,))
    return {
        "overlapping": (made.classic(), made.outlined(2)),
        "sagittal": (made.classic("sagittal"), made.outlined()),
        "enhanced": (made.multiframe(), made.outlined(2)),
        "nothing": (made.classic(), Result()),
        "many": (made.classic(), many(40)),
        "radiograph": (shown.radiograph("MONOCHROME1"), Result((lesion,))),
        "colour": (shown.clip(), Result((lesion,))),
        "ecg": (made.ecg(), made.rhythm()),
    }


def test_the_outline_is_in_the_segments_colour_where_bright_meets_dark(tmp_path):
    write(encode_picture(*bright_block(), made.work()), tmp_path / "sc.dcm")
    pixels = dcmread(tmp_path / "sc.dcm").pixel_array.astype(int)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    drawn = (red > 200) & (blue > 200) & (green < 60)
    gray = np.where((abs(red - green) < 12) & (abs(red - blue) < 12), red, -1)
    drawn[430:] = False  # below are words and their swatches
    assert drawn.sum() > 500
    for row, column in np.argwhere(drawn)[::37]:
        around = gray[row - 20 : row + 21, column - 20 : column + 21]  # a pixel is 16 wide
        assert around.max() > 200
        assert 0 <= around[around >= 0].min() < 60


def test_pixels_that_are_not_square_are_drawn_as_they_are():
    result = Result((Finding(codes.OPACITY, regions=(CIRCLE,)),))
    found = content.content(shown.radiograph(), result, made.work())
    drawn = (render.picture(found).astype(int) - (255, 196, 61))[112:600]
    rows, columns = np.nonzero(np.abs(drawn).max(axis=2) < 30)
    assert np.ptp(rows) > 50
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=3)  # a circle is round


@pytest.mark.parametrize(
    ("plane", "left", "top"), [("axial", "R", "A"), ("sagittal", "A", "H"), ("oblique", "R", "AF")]
)
def test_the_letters_at_the_edges_are_the_patients_sides(plane, left, top):
    (view, *_) = views.views(made.classic(plane), ())
    assert (view.left, view.top) == (left, top)


def test_a_radiograph_says_its_own_sides():
    (view,) = views.views(shown.radiograph(), ())
    assert (view.left, view.top) == ("R", "H")


def test_a_small_region_is_enlarged_around_its_middle():
    point = Finding(codes.NODULE, regions=(Region(0, Graphic.POINT, ((60.0, 4.0),)),))
    (view,) = content.content(shown.radiograph(), Result((point,)), made.work()).views
    left, right, top, bottom = view.part
    assert right == shown.COLUMNS
    assert top == 0.0
    assert (right - left, bottom - top) == (0.4 * shown.COLUMNS, 0.4 * shown.ROWS)
    assert view.caption == "Image 1, 2.5x"


def test_every_segment_is_on_the_image_where_it_is_largest():
    masks = np.zeros((3, *made.SHAPE), bool)
    for number, slices in enumerate([(1, 2), (5, 7), (9, 10)]):
        masks[number, slices[0], 4:8, 4:8] = masks[number, slices[1], 2:12, 2:12] = True
    segments = tuple(
        Segment(f"Segment {number}", codes.TISSUE, codes.BRAIN, mask)
        for number, mask in enumerate(masks)
    )
    source = shown.ct()
    found = content.content(source, Result(segments=segments), made.work()).views
    assert [view.caption for view in found] == ["Image 3", "Image 8", "Image 11"]


@pytest.mark.parametrize("kind", every_kind())
def test_all_words_are_inside_the_page_and_none_are_the_patients(kind, written):
    source, result = every_kind()[kind]
    encode_picture(source, result, made.work())
    assert all(right <= 1024 - 38 and 0 < y < 1024 for right, y, _, _ in written)
    assert all(size >= 17.0 for _, _, _, size in written)
    assert "Made by an algorithm. Not for primary diagnosis." in words(written)
    assert "phantom-net 2.1 by Someone." in words(written)
    assert "Trained on: synthetic spheres" in words(written)
    assert not any(secret in words(written) for secret in IDENTITY)


def test_what_has_no_room_on_the_picture_is_counted_and_in_the_document(written, tmp_path):
    source, result = made.classic(), many(40)
    encode_picture(source, result, made.work())
    (more,) = (text for _, _, text, _ in written if "more: see the report" in text)
    drawn = sum(text == "Nodule:" for _, _, text, _ in written)
    assert 4 <= drawn < 40
    assert more == f"and {43 - drawn} more: see the report."
    text = pages_of(encode_pdf(source, result, made.work()), tmp_path)
    assert text.count("Nodule:") == 40
    assert text.count("12.35 mL (95 % interval from 11 to 13)") == 40
    assert "Costs $5 or $6_x." in text


def test_the_document_says_what_the_report_says(tmp_path):
    text = pages_of(encode_pdf(made.classic(), made.outlined(2), made.work()), tmp_path)
    for said in (
        "Brain volume",
        "Patient and study: see the DICOM header.",
        "Brain: present, certainty 93.2 %. Site: Brain, left.",
        "Brain (Nodule): present, certainty 93.2 %. Site: Brain, left.",
        "A note for the reader.",
        "Made by an algorithm. Not for primary diagnosis.",
        "Trained on: synthetic spheres",
        "See: A model card",
    ):
        assert said in text
    assert not any(secret in text for secret in IDENTITY)


def test_nothing_found_is_said_over_images_of_what_was_looked_at(written):
    found = content.content(shown.ct(), Result(), made.work())
    assert [view.caption for view in found.views] == ["Image 4", "Image 7", "Image 10"]
    encode_picture(shown.ct(), Result(), made.work())
    assert "Analysed; nothing was found." in words(written)


def test_a_study_that_was_not_judged_says_so_and_why(written, tmp_path):
    instances, reason = made.classic().instances, "Slices are missing."
    encode_refusal_picture(instances, reason, made.work())
    text = pages_of(encode_refusal_pdf(instances, reason, made.work()), tmp_path)
    for said in (words(written), text):
        assert "NOT ANALYSED" in said
        assert reason in said
        assert "This is not a negative result" in said


def test_marked_spans_of_a_recording_are_highlighted():
    found = content.content(made.ecg(), made.rhythm(), made.work("ecg_report"))
    assert [lead.label for lead in found.strip.leads if lead.spans] == ["II"]
    highlighted = render.picture(found)
    plain = render.picture(content.content(made.ecg(), Result(), made.work("ecg_report")))
    changed = np.nonzero((highlighted[:700] != plain[:700]).any(axis=2))
    assert np.ptp(changed[1]) > 500  # two spans, five seconds apart


def test_a_span_late_in_a_long_recording_is_in_the_strip():
    source = made.ecg()
    (group,) = source.study.groups
    longer = Waveform((replace(group, samples=np.tile(group.samples, 6)),))
    source = replace(source, study=longer)
    (finding,) = made.rhythm().findings
    late = replace(finding, spans=(replace(finding.spans[0], start_s=42.0, end_s=44.0),))
    strip = views.strip(source, Result((late,)))
    assert strip.seconds[0] == pytest.approx(41.0)
    assert strip.seconds[-1] == pytest.approx(51.0, abs=0.01)


@pytest.mark.skipif(
    bool(validators.why_missing("dciodvfy")), reason=validators.why_missing("dciodvfy")
)
def test_dciodvfy_finds_no_error_in_any_picture_or_document(tmp_path):
    kinds = every_kind()
    for kind in ("enhanced", "radiograph", "ecg"):
        source, result = kinds[kind]
        work = made.work("ecg_report" if kind == "ecg" else "measurement_report")
        write(encode_picture(source, result, work), tmp_path / f"{kind}-sc.dcm")
        write(encode_pdf(source, result, work), tmp_path / f"{kind}-pdf.dcm")
    instances = made.classic().instances
    write(encode_refusal_picture(instances, "No.", made.work()), tmp_path / "refusal-sc.dcm")
    write(encode_refusal_pdf(instances, "No.", made.work()), tmp_path / "refusal-pdf.dcm")
    complaints = validators.dciodvfy(tmp_path.iterdir())
    assert {path.name: said for path, said in complaints.items() if said} == {}


def test_an_old_pacs_stores_all_that_is_not_segmentation_or_report(tmp_path):
    source, result = shown.ct(), made.outlined(2)
    values = np.zeros(source.study.shape, np.float32)
    a_map = ParametricMap("Map", Code("122157", "DCM", "Probability"), "1", values)
    objects = {
        "sc": encode_picture(source, result, made.work()),
        "pdf": encode_pdf(source, result, made.work()),
        "gsps": encode_presentation(source, result, made.work()),
        "map": encode_parametric_map(source, a_map, 1, made.work()),
    }
    paths = [tmp_path / f"{role}.dcm" for role in objects]
    for path, dataset in zip(paths, objects.values(), strict=True):
        assert dataset is not None
        write(dataset, path)
    with orthanc(tmp_path / "orthanc") as pacs:
        sent = dcmtk.storescu(pacs.port, paths, "-R", called_ae=pacs.ae_title)
        assert sent.returncode == 0, sent.stderr
        for dataset in objects.values():
            (stored,) = pacs.datasets(SOPInstanceUID=dataset.SOPInstanceUID)
            assert stored.SOPClassUID == dataset.SOPClassUID


def test_pixels_once_compressed_with_loss_say_so_for_ever():
    source = shown.clip()
    (header,) = source.instances
    header.LossyImageCompression, header.LossyImageCompressionRatio = "01", 20
    header.LossyImageCompressionMethod = "ISO_10918_1"
    dataset = encode_picture(source, Result(), made.work())
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionRatio) == ("01", 20)


def test_the_same_result_makes_the_same_bytes(tmp_path):
    for encode in (encode_picture, encode_pdf):
        for name in ("one", "other"):
            write(encode(made.classic(), made.outlined(2), made.work()), tmp_path / name)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_the_users_own_settings_of_matplotlib_change_nothing(tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\nimage.cmap: jet\n")
    program = (
        "from hashlib import sha256; from tests.sr_templates import made;"
        "from node.encode import pdf, picture; a = (made.classic(), made.outlined(2), made.work());"
        "print(sha256(picture.encode_picture(*a).PixelData).hexdigest());"
        "print(sha256(pdf.encode_pdf(*a).EncapsulatedDocument).hexdigest())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "MATPLOTLIBRC": str(tmp_path)},
    ).stdout.split()
    result = (made.classic(), made.outlined(2), made.work())
    assert printed == [
        sha256(encode_picture(*result).PixelData).hexdigest(),
        sha256(encode_pdf(*result).EncapsulatedDocument).hexdigest(),
    ]


def test_whoever_only_imports_the_encoder_does_not_pay_for_drawing():
    program = "import sys, node.encode.picture, node.encode.pdf; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"


def test_an_undecided_finding_is_drawn_and_an_absent_one_is_not():
    def shapes(presence):
        result = Result((Finding(codes.OPACITY, presence, regions=(CIRCLE,)),))
        (view,) = content.content(shown.radiograph(), result, made.work()).views
        return len(view.shapes)

    assert shapes(Presence.INDETERMINATE) == 1
    assert shapes(Presence.ABSENT) == 0
