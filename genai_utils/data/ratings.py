"""Ratings of films: MovieTweetings, the likes in it, and splits that do not leak."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genai_utils.checks import check_array, check_positive
from genai_utils.data.fetch import fetch, registry

__all__ = [
    "Film",
    "Likes",
    "Ratings",
    "find_likes",
    "fold_in",
    "movietweetings",
    "read_films",
    "read_ratings",
    "some_likes",
    "split_users",
]

_TITLE = re.compile(r"(.*) \((\d{4})\)")


@dataclass(frozen=True)
class Ratings:
    """Ratings in the order of the file, one entry of each array for each rating.

    Args:
        users: Numbers of the users, shape ``(n,)``.
        items: Numbers of the films.
        values: Stars, from 0 to 10.
        times: Seconds since 1970, UTC.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        """Return the number of ratings."""
        return len(self.users)


@dataclass(frozen=True)
class Film:
    """What is known of a film: its title, its year and its genres."""

    title: str
    year: int
    genres: tuple[str, ...]


@dataclass(frozen=True)
class Likes:
    """Who liked what, in the order of time, with users and films counted from 0.

    Args:
        rows: Index of the user of each like, shape ``(n,)``.
        columns: Index of the film of each like.
        times: Seconds since 1970, rising.
        users: Number in the file of each row, shape ``(U,)``.
        items: Number in the file of each column, shape ``(I,)``.
    """

    rows: np.ndarray
    columns: np.ndarray
    times: np.ndarray
    users: np.ndarray
    items: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of users and of films."""
        return len(self.users), len(self.items)

    def matrix(self, which: Any = slice(None)) -> np.ndarray:
        """Return the likes as zeros and ones, eq. (32.1), float32 ``(U, I)``.

        Args:
            which: A mask or a slice over the likes: only these are ones.
        """
        x = np.zeros(self.shape, "float32")
        x[self.rows[which], self.columns[which]] = 1.0
        return x


def _fields(path: Path, count: int) -> list[list[str]]:
    """The lines of a file whose fields are separated by two colons."""
    lines = [
        line.split("::") for line in Path(path).read_text("utf-8").splitlines() if line
    ]
    wrong = [i + 1 for i, fields in enumerate(lines) if len(fields) != count]
    if wrong or not lines:
        raise ValueError(
            f"`{path}` must hold lines of {count} fields with `::` between them. "
            f"Received: {len(lines)} lines, of which line {wrong[:1] or 'none'} is "
            "the first that does not. Check that it is the file you meant."
        )
    return lines


def read_ratings(path: str | Path) -> Ratings:
    """Read a file of lines ``user::item::stars::seconds``.

    Args:
        path: Where the file lies.

    Returns:
        Whole numbers (int64), in the order of the file.

    Raises:
        ValueError: If a line has another form.
    """
    lines = _fields(Path(path), 4)
    try:
        table = np.array(lines, dtype="int64")
    except ValueError as error:
        raise ValueError(
            f"`{path}` must hold whole numbers. Received: {error}. Check that it is "
            "a file of ratings."
        ) from None
    return Ratings(*table.T.copy())


def read_films(path: str | Path) -> dict[int, Film]:
    """Read a file of lines ``item::title (year)::genre|genre``.

    Args:
        path: Where the file lies.

    Returns:
        A dictionary from the number of a film to what is known of it; the genres of
        some films are empty.

    Raises:
        ValueError: If a line has another form.
    """
    films = {}
    for number, name, genres in _fields(Path(path), 3):
        match = _TITLE.fullmatch(name)
        if not match or not number.isdigit():
            raise ValueError(
                f"`{path}` must hold films as `0117951::Trainspotting (1996)::Drama`. "
                f"Received: {number}::{name}. Check that it is a file of films."
            )
        title, year = match.groups()
        films[int(number)] = Film(
            title, int(year), tuple(filter(None, genres.split("|")))
        )
    return films


@functools.cache
def movietweetings() -> tuple[Ratings, dict[int, Film]]:
    """Return MovieTweetings: 100,000 ratings of films, read from tweets of 2013.

    People who rated a film on IMDb with an app could tweet it.  The set holds what was
    found from 28 February to 1 September 2013, with numbers in place of names.  MIT
    licence, copyright (c) 2013 Simon Dooms.

    Returns:
        ``(ratings, films)``, as :func:`read_ratings` and :func:`read_films` give them.

    Raises:
        FileNotFoundError: If the files are not on this machine and cannot be fetched.

    Reference:
        Dooms, De Pessemier and Martens (2013).
    """
    files = registry()["movietweetings"]["files"]
    ratings, films = (
        fetch("movietweetings", files[f"100K/{name}.dat"])
        for name in ("ratings", "movies")
    )
    return read_ratings(ratings), read_films(films)


def find_likes(
    ratings: Ratings, bar: int = 7, per_user: int = 5, per_item: int = 10
) -> Likes:
    """Keep the likes, then drop users and films with too few until none is left.

    A like is a rating of ``bar`` stars or more.  Dropping a film may leave a user with
    too few likes, so the two filters take turns until nothing changes.

    Args:
        ratings: From :func:`movietweetings` or :func:`read_ratings`.
        bar: Stars from which on a rating is a like.
        per_user: Likes that each user must keep, at least 1.
        per_item: Likes that each film must keep, at least 1.

    Returns:
        The likes in the order of time.

    Raises:
        ValueError: If nothing is left.
    """
    check_positive(per_user, "per_user")
    check_positive(per_item, "per_item")
    order = np.argsort(ratings.times, kind="stable")
    keep = order[ratings.values[order] >= bar]
    while len(keep):
        enough = np.ones(len(keep), bool)
        for names, least in ((ratings.users, per_user), (ratings.items, per_item)):
            _, at, count = np.unique(
                names[keep], return_inverse=True, return_counts=True
            )
            enough &= (count >= least)[at]
        if enough.all():
            break
        keep = keep[enough]
    if not len(keep):
        raise ValueError(
            f"`bar`, `per_user` and `per_item` must leave some likes. Received: {bar}, "
            f"{per_user} and {per_item}, which leave none. Lower one of them."
        )
    users, rows = np.unique(ratings.users[keep], return_inverse=True)
    items, columns = np.unique(ratings.items[keep], return_inverse=True)
    return Likes(rows, columns, ratings.times[keep], users, items)


def split_users(n: int, sizes: Sequence[int], seed: int = 0) -> tuple[np.ndarray, ...]:
    """Deal users out to groups: to train first, then the groups of ``sizes``.

    Args:
        n: Number of users.
        sizes: Users of each further group, such as ``(300, 600)`` for validation and
            test; fewer than ``n`` together.
        seed: Seed of the draw.

    Returns:
        Indices of the users who are left to train on, then of each group, sorted.

    Raises:
        ValueError: If no user is left to train on.
    """
    if min(sizes) < 1 or sum(sizes) >= n:
        raise ValueError(
            f"`sizes` must be above 0 and leave some of the {n} users to train on. "
            f"Received: {tuple(sizes)}. Choose smaller groups."
        )
    order = np.random.default_rng(seed).permutation(n)
    parts = np.split(order, np.cumsum([n - sum(sizes), *sizes])[:-1])
    return tuple(np.sort(p) for p in parts)


def fold_in(
    x: np.ndarray, share: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Hide some likes of each user: the rest is shown to the model, these are asked.

    Args:
        x: Zeros and ones, shape ``(U, I)``, at least two likes in each row.
        share: Share of the likes to hide, in (0, 1); at least one is hidden, and at
            least one is kept.
        seed: Seed of the draw.

    Returns:
        ``(shown, hidden)``, both of the shape and dtype of ``x``; their sum is ``x``.

    Raises:
        ValueError: If a user has fewer than two likes, or ``share`` leaves (0, 1).
    """
    x = check_array(x, "x", ndim=2, low=0, high=1)
    likes = (x > 0).sum(axis=1)
    if not 0 < share < 1 or likes.min() < 2:
        raise ValueError(
            "`share` must lie between 0 and 1, and each row of `x` must have two "
            f"likes. Received: {share!r}, and {int(likes.min())} likes in a row. "
            "Drop the users with fewer."
        )
    place = _shuffled(x, seed)
    count = np.clip(np.round(share * likes), 1, likes - 1)
    hidden = np.where(place < count[:, None], x, 0).astype(x.dtype)
    return x - hidden, hidden


def _shuffled(x: np.ndarray, seed: int) -> np.ndarray:
    """A place for each entry of a row: the likes come first, in a random order."""
    # a stream of its own: noise drawn elsewhere with this seed must not know the answer
    order = np.random.default_rng([seed, 1]).random(x.shape) - 2.0 * (x > 0)
    return order.argsort(axis=1).argsort(axis=1)


def some_likes(x: np.ndarray, skip: int, n: int, seed: int = 0) -> np.ndarray:
    """Keep ``n`` likes of each user, to see how a model does with few.

    Args:
        x: Zeros and ones, shape ``(U, I)``.
        skip: Likes to leave out first, such as those that are hidden.
        n: Likes to keep; fewer where a user has fewer than ``skip + n``.
        seed: Seed of the order of the likes: with the same seed, more likes contain
            the fewer ones.

    Returns:
        Of the shape and dtype of ``x``.
    """
    x = check_array(x, "x", ndim=2, low=0, high=1)
    place = _shuffled(x, seed)
    return np.where((place >= skip) & (place < skip + n), x, 0).astype(x.dtype)
