"""Diseases as the ontology names them, and rules as guidelines state them."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.models.add import from_catalogue
from pipelines import catalogue, models
from pipelines.codes import NODULE, VOLUME
from pipelines.contract import Code, Finding, Measurement, Presence, Result
from pipelines.knowledge import graph, ontology
from pipelines.knowledge.graph import advice, knowledge, read
from pipelines.knowledge.ontology import NotAnOntology

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "knowledge"
OBO = b"""format-version: 1.2

[Term]
id: DOID:4
name: disease

[Term]
id: DOID:850
name: lung disease
synonym: "pulmonary disease" EXACT []
synonym: "chest trouble" RELATED []
is_a: DOID:4 ! disease

[Term]
id: DOID:3083
name: chronic obstructive pulmonary disease
synonym: "COPD" EXACT [CSP2005\\:0292-1020]
is_a: DOID:850 {source="x"} ! lung disease

[Term]
id: DOID:9
name: obsolete thing
is_obsolete: true

[Typedef]
id: part_of
name: part of
"""
HAEMORRHAGE = Code("IPH", "99RADNODE", "Intraparenchymal hemorrhage")
FIBRILLATION = Code("49436004", "SCT", "Atrial Fibrillation")


def test_diseases_are_found_by_name_and_by_what_means_the_same() -> None:
    diseases = ontology.read(OBO)
    assert set(diseases.terms) == {"DOID:4", "DOID:850", "DOID:3083"}
    assert diseases.find("copd") == diseases.terms["DOID:3083"]
    assert diseases.find("Pulmonary  disease") == diseases.terms["DOID:850"]
    assert diseases.find("chest trouble") is None
    assert diseases.words("DOID:850") == ("lung disease", "pulmonary disease")
    assert diseases.ancestors("DOID:3083") == {"DOID:850", "DOID:4"}


def test_a_circle_of_diseases_has_an_end() -> None:
    circle = OBO.replace(b"name: disease", b"name: disease\nis_a: DOID:3083")
    assert ontology.read(circle).ancestors("DOID:3083") == {"DOID:850", "DOID:4"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        OBO + b"def: " + b"x" * (ontology.LONGEST_LINE + 1),
        OBO.replace(b"DOID:850\nname", b"DOID:4\nname"),
        OBO.replace(b"id: DOID:850\n", b"id: ../../x\n"),
        OBO.replace(b"name: lung disease\n", b""),
    ],
)
def test_what_is_no_ontology_is_refused(content: bytes) -> None:
    with pytest.raises(NotAnOntology):
        ontology.read(content)


def test_a_file_beyond_the_limit_is_refused_unread(monkeypatch) -> None:
    monkeypatch.setattr(ontology, "LARGEST_BYTES", 10)
    with pytest.raises(NotAnOntology, match="more than 10 bytes"):
        ontology.read(OBO)


def test_the_radiology_terms_that_a_site_adds_hold_every_disease_that_rules_name(tmp_path) -> None:
    assert ontology.added() == ontology.Ontology()
    if not DATA.is_dir():
        pytest.skip("the Disease Ontology is not on this machine")
    from_catalogue(tmp_path, catalogue.entries()[ontology.MODEL], folder=DATA)
    models.use(tmp_path)
    try:
        diseases = ontology.added()
    finally:
        models.use(None)
    assert len(diseases.terms) == 81
    assert "DOID:850" in diseases.ancestors("DOID:3083")
    named = {one.disease for one in knowledge().findings.values()} - {""}
    assert named <= diseases.terms.keys()


def test_every_rule_has_a_source_with_a_year_and_every_pipeline_named_is_there() -> None:
    for rule in knowledge().rules:
        assert any(f"20{year:02}" in rule.source for year in range(30))
    names = {one.advised_by for one in knowledge().findings.values()} - {""}
    assert names == {"lung-nodule-ct"}


def test_fibrillation_is_to_be_confirmed_only_where_it_is_present() -> None:
    ((sentence, source),) = advice(Result((Finding(FIBRILLATION), Finding(FIBRILLATION))))
    assert "electrocardiogram" in sentence
    assert "2024 ESC" in source
    for presence in (Presence.ABSENT, Presence.INDETERMINATE):
        assert advice(Result((Finding(FIBRILLATION, presence),))) == ()
    assert advice(Result()) == ()


@pytest.mark.parametrize(("volume_ml", "count"), [(50.0, 1), (50.1, 2)])
def test_a_rule_with_a_threshold_holds_beyond_it(volume_ml: float, count: int) -> None:
    measured = (Measurement(VOLUME, volume_ml, "mL"),)
    assert len(advice(Result((Finding(HAEMORRHAGE, measurements=measured),)))) == count


def test_a_number_in_another_unit_is_no_such_number() -> None:
    measured = (Measurement(VOLUME, 60_000.0, "mm3"),)
    assert len(advice(Result((Finding(HAEMORRHAGE, measurements=measured),)))) == 1


def test_what_a_pipeline_advises_itself_is_not_said_twice() -> None:
    assert advice(Result((Finding(NODULE),))) == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (('finding = "a"', 'finding = "c"'), "not there"),
        (('is_a = "b"', 'is_a = "c"'), "not there"),
        (('words = ["bb"]', 'words = ["bb"]\nis_a = "a"'), "kind of itself"),
        (('"2", "X"', '"1", "X"'), "one code"),
        (('source = "s"', 'source = ""'), "no source"),
        (("above = 1.0, ", ""), "no bound"),
    ],
)
def test_knowledge_that_leads_nowhere_or_in_a_circle_is_refused(change, why) -> None:
    text = """
[finding.a]
code = ["1", "X"]
is_a = "b"
words = ["aa"]
sites = []
[finding.b]
code = ["2", "X"]
words = ["bb"]
sites = []
[[rule]]
finding = "a"
measured = { codes = [["3", "X"]], above = 1.0, unit = "mL" }
sentence = "Do."
source = "s"
"""
    assert [one.name for one in read(text).kinds(read(text).findings["a"])] == ["a", "b"]
    with pytest.raises(ValueError, match=why):
        graph.read(text.replace(*change))
