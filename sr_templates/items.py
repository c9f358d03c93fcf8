"""Content items from the contract's types: one short constructor for each value type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from highdicom import sr

from pipelines.codes import UNIT_MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipelines.contract import Code

CONTAINS = sr.RelationshipTypeValues.CONTAINS
HAS_ACQ_CONTEXT = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
HAS_CONCEPT_MOD = sr.RelationshipTypeValues.HAS_CONCEPT_MOD
HAS_OBS_CONTEXT = sr.RelationshipTypeValues.HAS_OBS_CONTEXT
HAS_PROPERTIES = sr.RelationshipTypeValues.HAS_PROPERTIES
INFERRED_FROM = sr.RelationshipTypeValues.INFERRED_FROM
SELECTED_FROM = sr.RelationshipTypeValues.SELECTED_FROM


def concept(code: Code) -> Any:
    """Return ``code`` as a coded concept."""
    return sr.CodedConcept(code.value, code.scheme, code.meaning)


def unit(ucum: str) -> Any:
    """Return a UCUM unit as a coded concept; its meaning is the unit where none is known."""
    return sr.CodedConcept(ucum, "UCUM", UNIT_MEANINGS.get(ucum, ucum))


def text(name: Code, value: str, relation: Any = CONTAINS) -> Any:
    """Return a TEXT item."""
    return sr.TextContentItem(concept(name), value, relation)


def code(name: Code, value: Code, relation: Any = CONTAINS, children: Iterable[Any] = ()) -> Any:
    """Return a CODE item."""
    return _with(sr.CodeContentItem(concept(name), concept(value), relation), children)


def uid(name: Code, value: str, relation: Any = CONTAINS) -> Any:
    """Return a UIDREF item."""
    return sr.UIDRefContentItem(concept(name), value, relation)


def number(
    name: Code, value: float, ucum: str, relation: Any = CONTAINS, children: Iterable[Any] = ()
) -> Any:
    """Return a NUM item in a UCUM unit."""
    item = sr.NumContentItem(concept(name), value, unit(ucum), relationship_type=relation)
    return _with(item, children)


def container(
    name: Code,
    children: Iterable[Any],
    relation: Any = CONTAINS,
    template: str | None = None,
) -> Any:
    """Return a CONTAINER item; ``template`` is the TID it follows, if it is a template's root."""
    # SEPARATE: a viewer that takes content for running text drops names and children (OHIF 3.13).
    own = sr.ContainerContentItem(
        concept(name),
        is_content_continuous=False,
        relationship_type=relation,
        template_id=template,
    )
    return _with(own, children)


def root(name: Code, children: Iterable[Any], template: str) -> Any:
    """Return the root container of a document."""
    return container(name, children, relation=None, template=template)


def _with(item: Any, children: Iterable[Any]) -> Any:
    listed = list(children)
    if listed:
        item.ContentSequence = sr.ContentSequence(listed)
    return item
