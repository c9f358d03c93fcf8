"""A site brings its own model: a file and a page of TOML in, an overlay in the PACS out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest

from node.domain import Mode
from node.settings import Complete, DimseDestination, Listen, Route, Settings, Spool, Work
from node.store import listing, modes
from node.store.ledger import open_ledger
from tests.peers import bright_spot, free_port, site_model, wait_until
from tests.peers.orthanc import orthanc
from tests.peers.radnode import Node, write_config
from tests.peers.scanner import send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.store.ledger import Ledger
    from tests.peers.orthanc import Orthanc

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"
NEXT = "site-spot-next-ct"
"""A second model of the site, to be tried in shadow."""


class Site:
    """A node with two models that a site has added, and its PACS."""

    def __init__(self, node: Node, ledger: Ledger, pacs: Orthanc) -> None:
        self.node, self.ledger, self.pacs = node, ledger, pacs

    def say(self, *verb: str) -> str:
        finished = self.node.ask(*verb)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def jobs(self, study_uid: str) -> dict[str, dict[str, object]]:
        with self.ledger.read() as db:
            rows = listing.jobs(db, 100)
        return {str(row["pipeline"]): row for row in rows if row["study_uid"] == study_uid}

    def scan(self, root: str, *, jobs: int) -> str:
        """Send a study and wait until all its jobs are done; its UID."""
        study = bright_spot.ct_series(root)
        study_uid = str(study[0].StudyInstanceUID)
        assert {one.status for one in send(self.node.settings.listen.port, study)} == {0}
        wait_until(
            lambda: [row["state"] for row in self.jobs(study_uid).values()] == ["completed"] * jobs,
            timeout_s=90.0,
            what="The end of the jobs",
        )
        return study_uid


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    model = site_model.write(folder / "model", threshold_hu=300.0)
    # The next one takes the patient for a lesion: nobody would want that in the PACS.
    following = site_model.write(folder / "next", threshold_hu=-1.0, name=NEXT)
    with ExitStack() as stack:
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
                Route(match={"Modality": "CT"}, run=(site_model.NAME, NEXT), send_to=("pacs",)),
            ),
        )
        pacs.register("RADNODE", settings.listen.port)
        node = Node(settings, write_config(settings, folder / "radnode.toml"))
        stack.callback(node.stop)
        for path in (model, following):
            assert "It is a pipeline" in node.ask("models", "add", str(path)).stdout
        assert node.ask("models", "shadow", NEXT).returncode == 0
        node.start("up")
        node.listening()
        yield Site(node, stack.enter_context(open_ledger(settings)), pacs)


def test_an_onnx_model_and_a_page_of_toml_draw_an_overlay_in_the_pacs(site: Site) -> None:
    manifest = site_model.MANIFEST.splitlines()
    assert len([line for line in manifest if line.strip()]) <= 25
    study_uid = site.scan("a site's study", jobs=2)
    wait_until(
        lambda: len(site.pacs.find(StudyInstanceUID=study_uid)) == 2,
        timeout_s=60.0,
        what="The results in the PACS",
    )
    results = {str(one.Modality): one for one in site.pacs.datasets(StudyInstanceUID=study_uid)}
    assert sorted(results) == ["SEG", "SR"]
    truth = {
        str(one.SOPInstanceUID): one.pixel_array > 300
        for one in bright_spot.ct_series("a site's study")
    }
    overlay = {uid: np.zeros_like(mask) for uid, mask in truth.items()}
    segmentation = results["SEG"]
    (segment,) = segmentation.SegmentSequence
    assert segment.SegmentLabel == "Dense spot"
    planes = segmentation.pixel_array.reshape(-1, 32, 32)
    for group, plane in zip(segmentation.PerFrameFunctionalGroupsSequence, planes, strict=True):
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        overlay[str(image.ReferencedSOPInstanceUID)] |= plane != 0
    assert sum(int(mask.sum()) for mask in truth.values()) == 200
    for uid, mask in truth.items():
        assert np.array_equal(overlay[uid], mask)


def test_what_a_model_in_shadow_said_is_kept_and_compared_but_never_sent(site: Site) -> None:
    study_uid = site.scan("a second study", jobs=2)
    jobs = site.jobs(study_uid)
    assert jobs[NEXT]["outcome"] == "found"
    shown = json.loads(site.say("show", str(jobs[NEXT]["id"]), "--json"))
    assert shown["deliveries"] == []
    assert "withheld" in [event["kind"] for event in shown["events"]]
    wait_until(
        lambda: len(site.pacs.find(StudyInstanceUID=study_uid)) == 2,
        timeout_s=60.0,
        what="The results in the PACS",
    )
    makers = {
        str(one.ManufacturerModelName) for one in site.pacs.datasets(StudyInstanceUID=study_uid)
    }
    assert makers == {site_model.NAME}
    compared = json.loads(site.say("compare", site_model.NAME, NEXT, "--json"))
    case = next(one for one in compared["cases"] if one["job_b"] == jobs[NEXT]["id"])
    # 200 of 6 * 32 * 32 voxels of 2 mm³; by hand.
    (volumes,) = case["measurements"].values()
    assert volumes == pytest.approx([0.4, 12.288])
    assert list(case["overlaps"].values()) == pytest.approx([2 * 200 / (200 + 6144)])


def test_a_pipeline_is_switched_off_and_on_while_the_node_runs(site: Site) -> None:
    site.say("models", "disable", NEXT)
    study_uid = site.scan("a third study", jobs=1)
    assert list(site.jobs(study_uid)) == [site_model.NAME]
    assert f"radnode models enable {NEXT}" in site.say("why", study_uid)
    site.say("models", "enable", NEXT)
    with site.ledger.read() as db:
        assert modes.decided(db)[NEXT] is Mode.ENABLED
    study_uid = site.scan("a fourth study", jobs=2)
    wait_until(
        lambda: len(site.pacs.find(StudyInstanceUID=study_uid)) == 4,
        timeout_s=60.0,
        what="The results of both in the PACS",
    )
