"""Can a level be finished? A player who walks, jumps and falls on a grid of tiles."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from genai_utils.checks import check_array, check_positive

__all__ = ["JUMP", "find_path", "is_playable", "reachable"]

#: Rows that a jump rises at most.
JUMP = 4

State = tuple[int, int, int]  # row, the top one is 0; column; rows that are yet to rise


def find_path(solid: np.ndarray, jump: int = JUMP) -> list[tuple[int, int]]:
    """Return a shortest way from the left edge of a level to its last column.

    The player fills one tile.  In a step she walks to a neighbouring tile on the
    ground, or rises a row, or falls a row; in the air she may also move one column to
    either side, after the row.  A jump rises ``jump`` rows or less, and starts on a
    solid tile only.  Below the last row there is nothing, above the first a ceiling.
    She starts on the lowest solid tile of the first three columns.  Enemies, moving
    platforms and springs are left out.

    Args:
        solid: Whether a tile is solid, shape ``(H, W)``, the top row first.
        jump: Rows that a jump rises at most, at least 0.

    Returns:
        Rows and columns, first to last; an empty list where there is no way.

    Raises:
        ValueError: If ``solid`` is not a table of truth values, or ``jump`` is
            negative.
    """
    parents = _search(_checked(solid), int(check_positive(jump, "jump", zero_ok=True)))
    width = np.shape(solid)[1]
    last = next((s for s in parents if s[1] == width - 1), None)
    path = []
    while last is not None:
        path.append(last[:2])
        last = parents[last]
    return path[::-1]


def is_playable(solid: np.ndarray, jump: int = JUMP) -> bool:
    """Say whether a player can come to the last column.

    Args:
        solid: As in :func:`find_path`, which says what a player can do.
        jump: Rows that a jump rises at most.
    """
    return bool(find_path(solid, jump))


def reachable(solid: np.ndarray, jump: int = JUMP) -> np.ndarray:
    """Return where a player can be.

    Args:
        solid: As in :func:`find_path`, which says what a player can do.
        jump: Rows that a jump rises at most.

    Returns:
        bool, shape ``(H, W)``.
    """
    solid = _checked(solid)
    found = np.zeros(solid.shape, bool)
    for row, column, _ in _search(
        solid, int(check_positive(jump, "jump", zero_ok=True))
    ):
        found[row, column] = True
    return found


def _search(solid: np.ndarray, jump: int) -> dict[State, State | None]:
    """Breadth-first: each state that can be reached, and the one before it."""
    grid = solid.tolist()
    parents: dict[State, State | None] = dict.fromkeys(_start(solid))
    queue = deque(parents)
    while queue:
        state = queue.popleft()
        for new in _steps(grid, state, jump):
            if new not in parents:
                parents[new] = state
                queue.append(new)
    return parents


def _start(solid: np.ndarray) -> list[State]:
    """The lowest place to stand in the first three columns, if there is one."""
    places = ~solid[:-1, :3] & solid[1:, :3]
    return sorted((int(r), int(c), 0) for r, c in np.argwhere(places))[-1:]


def _steps(grid: list[list[bool]], state: State, jump: int) -> Iterator[State]:
    """Yield where a player can be one step later."""
    row, column, rise = state
    stands = row + 1 < len(grid) and grid[row + 1][column]
    if stands and rise == 0:
        yield from _sideways(grid, row, column, (0,))
        rise = jump
    if rise > 0:  # on the way up; to let go of the button leaves nothing to rise
        row, left = row - 1, (rise - 1, 0)
    else:
        row, left = row + 1, (0,)
    if 0 <= row < len(grid) and not grid[row][column]:
        yield from _sideways(grid, row, column, left)


def _sideways(
    grid: list[list[bool]], row: int, column: int, rises: tuple[int, ...]
) -> Iterator[State]:
    """Yield the free tiles of a row at most one column away."""
    for side in range(max(column - 1, 0), min(column + 2, len(grid[0]))):
        if not grid[row][side]:
            for rise in rises:
                yield row, side, rise


def _checked(solid: np.ndarray) -> np.ndarray:
    """Return a level of at least two rows of truth values."""
    solid = check_array(solid, "solid", ndim=2)
    if solid.dtype != bool or len(solid) < 2:
        raise ValueError(
            "`solid` must hold truth values in two rows or more. Received: dtype "
            f"{solid.dtype}, shape {solid.shape}. Use `data.levels.solid(text)`."
        )
    return solid
