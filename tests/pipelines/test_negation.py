"""What a sentence says of a term: there, not there, perhaps, or once."""

from __future__ import annotations

import pytest

from pipelines.knowledge.negation import LONGEST_TEXT, Status, mentions

SENTENCES = [
    ("There is a 6 mm nodule in the left upper lobe.", "affirmed"),
    ("No nodule.", "negated"),
    ("No mass, effusion, consolidation, pneumothorax or nodule is seen.", "negated"),
    ("The lungs are clear without focal nodule", "negated"),
    ("No evidence of a nodule.", "negated"),
    ("Nodule: looked for, not found.", "negated"),
    ("Nodules: none.", "negated"),
    ("A nodule was not seen.", "negated"),
    ("The nodule has resolved.", "negated"),
    ("Negative for nodule.", "negated"),
    ("No effusion, but a nodule in the right lung.", "affirmed"),
    ("There is no effusion; there is a nodule.", "affirmed"),
    ("No significant change of the nodule since the prior CT.", "affirmed"),
    ("No increase in size of the nodule.", "affirmed"),
    ("Compared with the previous CT, the nodule has grown to 1.5 cm.", "affirmed"),
    ("Nodule in the right lobe and the effusion that was there has resolved.", "affirmed"),
    ("NODULE, 8 mm.", "affirmed"),
    ("Possible nodule in the lingula.", "uncertain"),
    ("A nodule cannot be excluded.", "uncertain"),
    ("Cannot rule out nodule.", "uncertain"),
    ("Rule out nodule.", "uncertain"),
    ("The opacity may represent a nodule.", "uncertain"),
    ("No new nodule.", "uncertain"),
    ("Nodule: looked for, undecided.", "uncertain"),
    ("History of nodule.", "historical"),
    ("Status post resection of a nodule", "historical"),
    ("No history of nodule.", "negated"),
]


@pytest.mark.parametrize(("sentence", "said"), SENTENCES)
def test_a_sentence_says_of_a_nodule(sentence: str, said: str) -> None:
    (one,) = mentions(sentence, ["nodule"])
    assert one.status is Status(said)


def test_a_negation_ends_with_its_sentence() -> None:
    found = mentions("No nodule.\nHemorrhage in the left lobe", ["nodule", "hemorrhage"])
    assert [(one.term, one.sentence, one.status.value) for one in found] == [
        ("nodule", 0, "negated"),
        ("hemorrhage", 1, "affirmed"),
    ]


def test_of_terms_that_overlap_the_longest_is_read() -> None:
    text = "Intracerebral hemorrhage."
    (one,) = mentions(text, ["hemorrhage", "intracerebral hemorrhage"])
    assert one.term == "intracerebral hemorrhage"


def test_a_hyphen_is_a_space_and_a_part_of_a_word_is_no_term() -> None:
    assert len(mentions("Extra-axial hemorrhage", ["extra axial hemorrhage"])) == 1
    assert not mentions("Nodular opacity; micronodule", ["nodule"])


def test_a_text_without_end_is_read_up_to_a_limit() -> None:
    text = "x " * LONGEST_TEXT + "nodule."
    assert mentions(text, ["nodule"]) == ()
    assert mentions("", ["nodule"]) == ()
    assert mentions("nodule", [" "]) == ()
