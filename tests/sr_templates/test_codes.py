"""Every code the house uses is PS3.16's, word for word, or is on the list of exceptions."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

import node
import pipelines
import pipelines.codes
import sr_templates
from pipelines.contract import Code
from sr_templates import chest_cad_report, codes, echo_report
from sr_templates.code_table import is_in_context_group, meanings, problem_with
from sr_templates.tree import code_of
from tests.sr_templates import marked

ROOMS = [Path(room.__path__[0]) for room in (pipelines, sr_templates, node)]


def modules():
    """Return the modules that hold codes: all templates, and each pipeline's ``codes``."""
    found = [*ROOMS[1].glob("*.py"), *ROOMS[0].rglob("codes.py")]
    names = [".".join(path.relative_to(ROOMS[0].parent).with_suffix("").parts) for path in found]
    return [importlib.import_module(name) for name in sorted(names)]


def codes_in(value):
    """Yield the codes of a constant, however deep in its containers."""
    if isinstance(value, Code):
        yield value
    elif isinstance(value, dict):
        yield from codes_in([*value, *value.values()])
    elif isinstance(value, (list, tuple, set, frozenset)):
        for one in value:
            yield from codes_in(one)


def constants(module):
    return [code for value in vars(module).values() for code in codes_in(value)]


def written_out(path):
    """Yield every code that a module writes as three literals, wherever in it."""
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        literals = [str(one.value) for one in call.args if isinstance(one, ast.Constant)]
        if name in ("Code", "CodedConcept") and len(literals) == 3 and any(literals):
            yield Code(*literals)


def coded(dataset):
    """Yield every item of a code sequence of an object, as a code."""
    for element in dataset:
        if element.VR != "SQ":
            continue
        for item in element.value:
            if "CodingSchemeDesignator" in item:
                yield code_of(item)
            yield from coded(item)


def problems(listed):
    return sorted({problem for problem in map(problem_with, listed) if problem})


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_every_constant_is_in_the_table(module):
    assert problems(constants(module)) == []


def test_every_code_written_out_anywhere_is_in_the_table():
    written = {path: list(written_out(path)) for room in ROOMS for path in room.rglob("*.py")}
    assert sum(map(len, written.values())) > 100
    assert {path.name: said for path, listed in written.items() if (said := problems(listed))} == {}


def test_every_code_of_every_object_made_is_in_the_table(files):
    objects: dict[str, Dataset] = {
        path.name: dcmread(path, stop_before_pixels=True)
        for roles in files.values()
        for path in roles.values()
    }
    for kind, encoded in marked.everything().items():
        objects |= {f"{kind}-{one.role}": one.dataset for one in encoded}
    for name, dataset in objects.items():
        listed = list(coded(dataset))
        assert listed, name
        assert problems(listed) == [], name


def test_every_code_fits_its_attributes():
    listed = {code for module in modules() for code in constants(module)}
    too_long = [
        code
        for code in listed
        if len(code.value) > 16 or len(code.scheme) > 16 or len(code.meaning) > 64
    ]
    assert too_long == []


@pytest.mark.parametrize(
    ("context_group", "used"),
    [
        (100, [*codes.PROCEDURES.values(), codes.IMAGING_PROCEDURE]),
        (225, [codes.LOWER_UNCERTAINTY, codes.UPPER_UNCERTAINTY]),
        (244, [pipelines.codes.LEFT, pipelines.codes.RIGHT]),
        (6034, [*chest_cad_report._INTENT.values(), codes.NOT_FOR_PRESENTATION]),
        (6042, [codes.SUCCEEDED, codes.NOT_ATTEMPTED]),
        (
            6047,
            [
                codes.SUCCEEDED_WITH_FINDINGS,
                codes.SUCCEEDED_WITHOUT_FINDINGS,
                codes.NOTHING_SUCCEEDED,
            ],
        ),
        (6048, [codes.CERTAINTY_OF_FINDING]),
        (6101, [codes.SELECTED_REGION, *(kind for _, kind in chest_cad_report._MODIFIERS_OF)]),
        (6102, [pipelines.codes.NODULE, pipelines.codes.OPACITY]),
        (7010, [codes.OF_INTEREST, codes.REJECTED_FOR_QUALITY, codes.RETENTION_EXPIRED]),
        (7011, [codes.INAPPROPRIATE_PROCESSING]),
        (
            7150,
            [
                pipelines.codes.ANATOMICAL_STRUCTURE,
                pipelines.codes.MORPHOLOGICALLY_ABNORMAL,
                pipelines.codes.TISSUE,
            ],
        ),
        (7469, [pipelines.codes.VOLUME]),
        (12303, [echo_report._CALCULATED]),
        (12305, [echo_report._LEFT_VENTRICLE]),
    ],
)
def test_a_code_comes_from_the_context_group_of_its_row(context_group, used):
    assert [code for code in used if not is_in_context_group(code, context_group)] == []


@pytest.mark.parametrize(
    ("concept", "context_group"),
    [
        (codes.OBSERVATION_TYPE, 12302),
        (codes.MEASURED_PROPERTY, 12304),
        (codes.CARDIAC_CYCLE_POINT, 12307),
    ],
)
def test_modifiers_of_an_echo_measurement_come_from_their_groups(concept, context_group):
    values = [
        value
        for modifiers in echo_report.POST_COORDINATED.values()
        for name, value in modifiers
        if name == concept
    ]
    assert values
    assert all(is_in_context_group(value, context_group) for value in values)


def test_the_exceptions_are_exceptions():
    for code in pipelines.codes.OUTSIDE_PS3_16:
        assert code.meaning not in meanings(code.value, code.scheme)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (Code("126000", "DCM", "Imaging measurement report"), "should mean"),
        (Code("111023", "DCM", "Detection Performed"), "should mean"),
        (Code("123", "SCT", "Nodule"), "neither in PS3.16"),
        (Code("Newcode2", "99IHE", "Anything"), "neither in PS3.16"),
        (Code("furlong", "UCUM", "a long way"), "neither in PS3.16"),
        (Code("12738006", "SCT", ""), "no meaning"),
    ],
)
def test_a_wrong_code_is_told(code, complaint):
    assert complaint in (problem_with(code) or "")


@pytest.mark.parametrize(
    "code",
    [
        Code("mL", "UCUM", "milliliter"),
        Code("mL/min", "UCUM", "mL/min"),
        Code("A1", "99HOSPITAL", "Our own score"),
    ],
)
def test_units_as_themselves_and_private_schemes_pass(code):
    assert problem_with(code) is None
