"""Every code the house uses is PS3.16's, word for word, or is on the list of exceptions."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import pipelines
import pipelines.codes
from pipelines.contract import Code
from sr_templates import codes
from sr_templates.code_table import meanings, problem_with


def constants(module):
    listed = []
    for value in vars(module).values():
        candidates = value.values() if isinstance(value, dict) else [value]
        listed += [one for one in candidates if isinstance(one, Code)]
    return listed


def code_modules():
    folders = [one.name for one in pkgutil.iter_modules(pipelines.__path__) if one.ispkg]
    named = [f"pipelines.{folder}.codes" for folder in folders]
    found = [name for name in named if importlib.util.find_spec(name)]
    return [codes, pipelines.codes, *map(importlib.import_module, found)]


@pytest.mark.parametrize("module", code_modules(), ids=lambda module: module.__name__)
def test_every_constant_is_in_the_table(module):
    listed = constants(module)
    assert listed
    assert [problem for problem in map(problem_with, listed) if problem] == []


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
