"""Every object that any test of this session made: no error from any validator of the field."""

from __future__ import annotations

from collections import Counter

import pytest
from pydicom import dcmread

from tests import parallel
from tests.every_object import KEPT, one_of_each, results_in, with_new_content
from tests.peers import pixelmed, validators
from tests.peers.validators import complaints_about, is_report

pytestmark = pytest.mark.timeout(900)  # its wait for the tests of other processes included

PROGRAMS = ("dciodvfy", "dsrdump", "dcmpschk", "segimage2itkimage", "tid1500reader")


@pytest.fixture(scope="module")
def objects(request, tmp_path_factory):
    """One file of each structure."""
    parallel.wait_for_others(request.config, timeout_s=600.0)
    folder = tmp_path_factory.getbasetemp()
    if parallel.shared_folder(request.config) is not None:
        folder = folder.parent  # each process has a folder there
    made = [*request.config.stash[KEPT].paths, *results_in(folder)]
    if not made:
        pytest.skip("no test of this session made a result object")
    kept = one_of_each(made)
    kinds = Counter(dcmread(path, stop_before_pixels=True).SOPClassUID.name for path in kept)
    print(f"\n{len(made)} result objects, {len(kept)} structures:")
    print(*(f"  {count:4} {kind}" for kind, count in sorted(kinds.items())), sep="\n")
    return kept


@pytest.mark.skipif(
    bool(validators.why_missing(*PROGRAMS)), reason=validators.why_missing(*PROGRAMS)
)
def test_dicom3tools_dcmtk_and_dcmqi_find_no_error_in_any_object(objects):
    assert told(complaints_about(objects)) == ""


@pytest.mark.skipif(bool(pixelmed.why_missing()), reason=pixelmed.why_missing())
def test_pixelmed_finds_no_error_in_any_report(objects):
    reports = [path for path in objects if is_report(dcmread(path, stop_before_pixels=True))]
    chosen = with_new_content(reports)
    print(f"\n{len(chosen)} of {len(reports)} reports have content that no other has")
    found = pixelmed.pixelmed(chosen)
    assert told(found) == ""


def told(complaints):
    """Return what was said against which kind of object, a line each, for the person to read."""
    lines = []
    for path, said in complaints.items():
        kind = dcmread(path, stop_before_pixels=True).get("SeriesDescription", "") if said else ""
        lines += [f"{path.parent.name}/{path.name[:8]} {kind}: {line}" for line in said]
    return "\n".join(lines)
