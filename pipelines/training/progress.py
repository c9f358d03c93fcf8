"""How a training run is watched: a bar on a terminal, lines elsewhere, TensorBoard if asked for."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pipelines.training.loop import Point


class Watcher:
    """Told of every step and of every look at the score."""

    def __init__(
        self, advance: Callable[[float, str], None], tell: Callable[[str], None], board: Any
    ) -> None:
        """Take where to draw the bar, where to write lines, and a TensorBoard writer or None."""
        self._advance = advance
        self._tell = tell
        self._board = board
        self._words = ""

    def step(self, done: float) -> None:
        """Move the bar to this part of the run, 0..1."""
        self._advance(done, self._words)

    def point(self, point: Point, done: float) -> None:
        """Show what was measured."""
        self._words = f"loss {point.loss:.4g}"
        if point.score is not None:
            self._words += f", score {point.score:.4g}"
        self._tell(f"{done:4.0%}  step {point.step}  {point.seconds:.0f} s  {self._words}")
        if self._board is not None:
            self._board.add_scalar("loss", point.loss, point.step)
            if point.score is not None:
                self._board.add_scalar("score", point.score, point.step)
        self.step(done)


@contextmanager
def watching(logs: Path | None, *, quiet: bool) -> Iterator[Watcher]:
    """Open what a run is watched with, and close it behind it."""
    with ExitStack() as stack:
        board = _board(logs)
        if board is not None:
            stack.callback(board.close)
        if quiet:
            yield Watcher(lambda _done, _words: None, lambda _line: None, board)
        elif sys.stderr.isatty():
            yield Watcher(_bar(stack), lambda _line: None, board)
        else:
            yield Watcher(lambda _done, _words: None, _line, board)


def _line(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _bar(stack: ExitStack) -> Callable[[float, str], None]:
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import (  # noqa: PLC0415 - ditto
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = stack.enter_context(
        Progress(
            TextColumn("training"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
        )
    )
    task = bar.add_task("", total=1.0)

    def advance(done: float, words: str) -> None:
        bar.update(task, completed=done, description=words)

    return advance


def _board(logs: Path | None) -> Any:
    """Return a TensorBoard writer, or None where none is wanted or tensorboard is missing."""
    if logs is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional, and slow
    except ImportError:
        return None
    return SummaryWriter(str(logs))
