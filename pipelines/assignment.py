"""Who belongs to whom, each to one at most, at the least cost in all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def assign(cost: npt.NDArray[np.float64], limit: float) -> tuple[tuple[int, int], ...]:
    """Return pairs (row, column) of the least total cost, none of a cost of ``limit`` or more.

    A row and a column that stay alone cost ``limit`` together, so that no pair is torn apart
    only to give another one a partner.

    Args:
        cost: Shape (rows, columns), finite, not negative.
        limit: What a pair must cost less than.

    Source: Kuhn 1955, Naval Res Logist Q 2:83-97, with shortest augmenting paths (Jonker and
    Volgenant 1987, Computing 38:325-340).
    """
    if not cost.size:
        return ()
    rows, columns = cost.shape
    if rows > columns:
        return tuple(sorted((row, column) for column, row in assign(cost.T, limit)))
    padded = np.zeros((rows + 1, columns + 1))
    padded[1:, 1:] = np.minimum(cost, limit)
    row_of = _matched(padded)
    pairs = sorted((int(row_of[column]) - 1, column - 1) for column in range(1, columns + 1))
    return tuple(pair for pair in pairs if pair[0] >= 0 and cost[pair] < limit)


def _matched(cost: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the row that each column gets, 0 for none; row and column 0 are no part of it."""
    rows, columns = (size - 1 for size in cost.shape)
    of_row, of_column = np.zeros(rows + 1), np.zeros(columns + 1)  # the dual prices
    row_of = np.zeros(columns + 1, dtype=np.intp)
    for new in range(1, rows + 1):
        row_of[0] = new
        column = 0
        came_from = np.zeros(columns + 1, dtype=np.intp)
        shortest = np.full(columns + 1, np.inf)
        used = np.zeros(columns + 1, dtype=bool)
        while row_of[column]:
            used[column] = True
            row = row_of[column]
            reached = cost[row] - of_row[row] - of_column
            better = ~used & (reached < shortest)
            shortest[better] = reached[better]
            came_from[better] = column
            column = int(np.argmin(np.where(used, np.inf, shortest)))
            step = shortest[column]
            of_row[row_of[used]] += step
            of_column[used] -= step
            shortest[~used] -= step
        while column:
            column, previous = came_from[column], column
            row_of[previous] = row_of[column]
    return row_of
