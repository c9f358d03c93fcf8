"""What the scriptable PACS does, said in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

if TYPE_CHECKING:
    from pynetdicom.presentation import PresentationContext


@dataclass(frozen=True)
class Script:
    """What the PACS does. Steps are used up one a request; then it behaves.

    Attributes:
        associate: ``accept``, ``reject_transient``, ``reject_permanent``, ``abort``, ``stall``
            (never answers), ``deaf`` (accepts, then reads nothing more), ``slow`` (15 ms a PDU).
        store: A step for each C-STORE: ``ok``; a status such as ``0xA700``, stored if it is a
            warning; ``cut_before`` and ``cut_after`` storing, without an answer; ``late``: stored,
            and answered after ``late_s``; ``stall``.
        then: The step for every later C-STORE.
        commit: A step for each N-ACTION: ``same`` association, a ``new`` one, ``early`` (on the
            same one before the N-ACTION-RSP), ``early_new``, ``late`` (new, when ``release``
            is called), ``twice`` (same and new), ``partial`` (fails the first object), ``never``,
            ``refuse`` (0x0213), ``cut`` (no answer), ``wrong`` (an unknown transaction UID, then
            the right one).
        then_commit: The step for every later N-ACTION.
        sop_classes: Storage classes it accepts; empty: all.
        transfer_syntaxes: That it accepts; empty: all.
        commits: Whether it offers storage commitment at all.
    """

    associate: str = "accept"
    store: tuple[str, ...] = ()
    then: str = "ok"
    commit: tuple[str, ...] = ()
    then_commit: str = "same"
    late_s: float = 1.5
    sop_classes: tuple[str, ...] = ()
    transfer_syntaxes: tuple[str, ...] = ()
    commits: bool = True


def contexts_of(script: Script) -> list[PresentationContext]:
    """Return what a PACS with this script accepts."""
    classes = script.sop_classes or [
        str(context.abstract_syntax) for context in AllStoragePresentationContexts
    ]
    syntaxes = list(script.transfer_syntaxes or ALL_TRANSFER_SYNTAXES)
    contexts = [build_context(sop_class, syntaxes) for sop_class in classes]
    contexts.append(build_context(Verification))
    if script.commits:
        contexts.append(build_context(StorageCommitmentPushModel))
    return sorted(contexts, key=lambda context: str(context.abstract_syntax))
