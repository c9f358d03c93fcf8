"""A model of every runtime goes the whole way: DICOM in over a socket, SEG and SR in the PACS.

One node, one route, one study; seven models of which each was made by its own tools.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest

from node.models.add import from_folder
from node.settings import Complete, DimseDestination, Listen, Route, Settings, Spool, Work
from node.store import listing
from node.store.ledger import open_ledger
from pipelines import registry
from sr_templates.text import as_text
from tests.peers import free_port, wait_until
from tests.peers.orthanc import orthanc
from tests.peers.radnode import Node, write_config
from tests.peers.scanner import send
from tests.peers.validators import complaints_about
from tests.pipelines.runtimes import balls, made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom import Dataset

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"
RUNTIMES = (
    "onnx",
    "torchscript",
    "safetensors",
    "bundle",
    "nnunet",
    "totalsegmentator",
    "container",
)
WHERE = balls.grid(balls.SAGITTAL)
"""As the scanner cuts: left and right are what the slices count."""


def write_models(folder: Path, programs: Path) -> dict[str, Path]:
    """Write a model of each runtime; each its own name."""
    segmentator = made.install_program(programs, "TotalSegmentator", made.TOTALSEGMENTATOR)
    made.install_program(programs, "podman", made.ENGINE)
    folders = {
        "onnx": balls.write_onnx(folder / "onnx"),
        "torchscript": made.write_torchscript(folder / "torchscript"),
        "safetensors": made.write_safetensors(folder / "safetensors"),
        "bundle": made.write_bundle(folder / "bundle"),
        "nnunet": made.write_nnunet(folder / "nnunet"),
        "totalsegmentator": made.write_totalsegmentator(folder / "ts", segmentator),
        "container": made.write_container(folder / "container"),
    }
    for name, path in folders.items():
        manifest = path / "pipeline.toml"
        manifest.write_text(manifest.read_text().replace("balls-ct", f"balls-{name}"))
    return folders


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Dataset]]]:
    """Model -> modality -> what the PACS holds of it, after one study went through."""
    folder = tmp_path_factory.mktemp("runtimes")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        models = write_models(folder / "made", folder / "bin")
        pacs = stack.enter_context(orthanc(folder / "orthanc"))
        settings = Settings(
            data=folder / "data",
            listen=Listen(host=HOST, port=free_port()),
            spool=Spool(minimum_free_bytes=0),
            complete=Complete(series_s=0.3, study_s=0.5),
            work=Work(threads=2),
            destinations={
                "pacs": DimseDestination(
                    kind="dimse", ae_title=pacs.ae_title, host=HOST, port=pacs.port
                )
            },
            routes=(
                Route(
                    match={"Modality": "CT"},
                    run=tuple(f"balls-{name}" for name in RUNTIMES),
                    send_to=("pacs",),
                ),
            ),
        )
        pacs.register("RADNODE", settings.listen.port)
        node = Node(settings, write_config(settings, folder / "radnode.toml"))
        stack.callback(node.stop)
        settings.models_folder.mkdir(parents=True)
        for path in models.values():
            from_folder(settings.models_folder, path, taken=registry.is_installed)
        node.start("up")
        node.listening()
        study = balls.ct_series("a study for every runtime", WHERE)
        assert {one.status for one in send(settings.listen.port, study)} == {0}
        ledger = stack.enter_context(open_ledger(settings))

        def open_jobs() -> list[str]:
            with ledger.read() as db:
                rows = listing.jobs(db, 100)
            failed = [(row["pipeline"], row["what"]) for row in rows if row["state"] == "failed"]
            assert not failed
            states = {str(row["pipeline"]): row["state"] for row in rows}
            return [f"balls-{n}" for n in RUNTIMES if states.get(f"balls-{n}") != "completed"]

        wait_until(lambda: not open_jobs(), timeout_s=240.0, what="The end of all jobs")
        uid = str(study[0].StudyInstanceUID)
        wait_until(
            lambda: len(pacs.find(StudyInstanceUID=uid)) == 2 * len(RUNTIMES),
            timeout_s=60.0,
            what="All results in the PACS",
        )
        found: dict[str, dict[str, Dataset]] = {}
        for one in pacs.datasets(StudyInstanceUID=uid):
            maker = str(one.ManufacturerModelName).removeprefix("balls-")
            found.setdefault(maker, {})[str(one.Modality)] = one
        yield found


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_model_saw_lies_on_the_patient_in_the_pacs(results, tmp_path, runtime):
    objects = results[runtime]
    assert sorted(objects) == ["SEG", "SR"]
    slices = {
        str(one.SOPInstanceUID): number
        for number, one in enumerate(balls.ct_series("a study for every runtime", WHERE))
    }
    segmentation = objects["SEG"]
    labels = {one.SegmentNumber: one.SegmentLabel for one in segmentation.SegmentSequence}
    masks = {str(label): np.zeros(WHERE.shape, bool) for label in labels.values()}
    planes = segmentation.pixel_array.reshape(-1, *WHERE.shape[1:])
    for group, plane in zip(segmentation.PerFrameFunctionalGroupsSequence, planes, strict=True):
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        (segment,) = group.SegmentIdentificationSequence
        label = str(labels[segment.ReferencedSegmentNumber])
        masks[label][slices[str(image.ReferencedSOPInstanceUID)]] |= plane != 0
    balls.assert_lie_on_the_balls(masks, WHERE)
    report = as_text(objects["SR"])
    assert "Nodule" in report
    assert "synthetic: weights set by hand" in report
    for kind, one in objects.items():
        one.save_as(tmp_path / f"{kind}.dcm", enforce_file_format=True)
    assert complaints_about([tmp_path / "SEG.dcm", tmp_path / "SR.dcm"]) == {}
