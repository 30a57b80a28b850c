"""Scenes of one or two coloured shapes, what to say about them, and an exact reader.

A *request* is what a caption says: ``(kind,)`` for one thing, or
``(kind, relation, kind)`` for two, with kinds such as ``("red", "circle")``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from genai_utils.checks import check_choice, check_images, check_positive, check_whole

__all__ = [
    "COLOURS",
    "KINDS",
    "MAX_WORDS",
    "RELATIONS",
    "SHAPES",
    "VOCABULARY",
    "Thing",
    "decode",
    "draw",
    "encode",
    "from_patches",
    "judge",
    "read",
    "render",
    "requests",
    "say",
    "to_patches",
    "words",
]

SIDE = 16
#: Colours and their values in [-1, 1]; the ground is nearly white.
COLOURS = {
    "red": (0.75, -0.75, -0.75),
    "green": (-0.85, 0.35, -0.55),
    "blue": (-0.8, -0.45, 0.8),
    "yellow": (0.9, 0.65, -0.9),
}
GROUND = (0.9, 0.9, 0.9)
SHAPES = ("circle", "square", "triangle")
SIZES = (5, 7)  # sides in pixels, small and big
#: All kinds of things.
KINDS = tuple(product(COLOURS, SHAPES))
#: Where the first thing is, seen from the second, as (rows down, columns right).
RELATIONS = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}
#: Words that a caption may have at most; shorter ones are filled up with 0.
MAX_WORDS = 13

_ZH = {"red": "红色的", "green": "绿色的", "blue": "蓝色的", "yellow": "黄色的"}
_ZH |= {"circle": "圆", "square": "方块", "triangle": "三角形"}
_ZH |= {"left": "左边", "right": "右边", "above": "上边", "below": "下边", "at": "在"}
_EN = ("a", "of", *COLOURS, *SHAPES, *RELATIONS)
#: Words and their tokens; 0 is padding.
VOCABULARY = {word: i for i, word in enumerate(("", *_EN, *_ZH.values()))}


class Thing(NamedTuple):
    """One thing in an image.

    Args:
        colour: One of ``COLOURS``.
        shape: One of ``SHAPES``.
        size: Its side in pixels, 5 or 7.
        row: Row of its upper left corner.
        column: Column of its upper left corner.
    """

    colour: str
    shape: str
    size: int
    row: int
    column: int

    @property
    def kind(self) -> tuple[str, str]:
        """Colour and shape."""
        return self.colour, self.shape

    @property
    def centre(self) -> tuple[float, float]:
        """Row and column of the centre."""
        return self.row + self.size / 2, self.column + self.size / 2


def _mask(shape: str, size: int) -> np.ndarray:
    """A square of truths where the shape is, ``(size, size)``."""
    far = np.abs(np.arange(size) - size // 2)
    if shape == "square":
        return np.ones((size, size), bool)
    if shape == "circle":
        return far[:, None] ** 2 + far**2 < size**2 / 4 - 1.5  # a diamond if small
    return far <= np.arange(size)[:, None] // 2  # a triangle, tip up


MASKS = {(shape, size): _mask(shape, size) for shape in SHAPES for size in SIZES}


def render(things: Iterable[Thing]) -> np.ndarray:
    """Draw things, float32, shape ``(16, 16, 3)``, in [-1, 1].

    Args:
        things: What is to be seen; a later one covers an earlier one.
    """
    image = np.full((SIDE, SIDE, 3), GROUND, "float32")
    for colour, shape, size, row, column in things:
        part = image[row : row + size, column : column + size]
        part[MASKS[shape, size]] = COLOURS[colour]
    return image


def requests(keep: Callable[[tuple], bool] | None = None) -> list[tuple]:
    """Return every request there is, or those that are kept.

    Args:
        keep: Maps a request to whether it stays; ``None`` keeps all.

    Returns:
        First those of one thing, then those of two.
    """
    found = [(kind,) for kind in KINDS]
    found += list(product(KINDS, RELATIONS, KINDS))
    return [r for r in found if keep is None or keep(r)]


def draw(
    wanted: Sequence[tuple], seed: int = 0
) -> tuple[np.ndarray, list[tuple[Thing, ...]]]:
    """Draw one image for each request; sizes and positions are random.

    An image has four cells of 8 x 8 pixels, a cell holds one thing or none, and two
    things share a row or a column.  So each request leaves eight layouts open.

    Args:
        wanted: Requests, at least one.
        seed: Seed of sizes and positions.

    Returns:
        ``(images, things)``: float32 images ``(n, 16, 16, 3)`` in [-1, 1], and what is
        in each, in the order of the request.
    """
    luck = np.random.default_rng(seed).random((len(wanted), 4)).tolist()
    things = [_place(request, *u) for request, u in zip(wanted, luck, strict=True)]
    return np.stack([render(scene) for scene in things]), things


def _place(request: tuple, *luck: float) -> tuple[Thing, ...]:
    """Choose sizes and cells by four numbers in [0, 1)."""
    a, b = (SIZES[int(2 * u)] for u in luck[:2])
    row, column = (int(2 * u) for u in luck[2:])
    if len(request) == 1:
        return (_put(request[0], a, row, column),)
    first, relation, second = request
    down, right = RELATIONS[relation]
    row, column = (row if not down else down > 0, column if not right else right > 0)
    other = (1 - row if down else row), (1 - column if right else column)
    return _put(first, a, row, column), _put(second, b, *other)


def _put(kind: tuple[str, str], size: int, row: int, column: int) -> Thing:
    """Put a thing into the middle of one of four cells of 8 x 8 pixels."""
    edge = (8 - size) // 2
    return Thing(*kind, size, 8 * int(row) + edge, 8 * int(column) + edge)


def say(request: tuple, language: str = "en") -> str:
    """Return the caption of a request.

    Args:
        request: One kind, or two with a relation.
        language: ``"en"`` or ``"zh"``.
    """
    check_choice(language, "language", ("en", "zh"))
    first, *rest = request
    if language == "zh":
        one = "".join(_ZH[w] for w in first)
        if not rest:
            return one
        relation, second = rest
        return f"{one}在{''.join(_ZH[w] for w in second)}{_ZH[relation]}"
    one = f"a {' '.join(first)}"
    if not rest:
        return one
    relation, second = rest
    of = " of" if relation in ("left", "right") else ""
    return f"{one} {relation}{of} a {' '.join(second)}"


@lru_cache(4096)
def words(caption: str) -> tuple[str, ...]:
    """Cut a caption into words of the vocabulary: at spaces, or the longest that fits.

    Args:
        caption: English or Chinese.

    Raises:
        ValueError: If a part of it is no word of the vocabulary.
    """
    found = []
    for part in caption.split():
        while part:
            fits = [w for w in VOCABULARY if w and part.startswith(w)]
            if part.isascii():
                fits = [w for w in fits if w == part]
            if not fits:
                known = " ".join(w for w in VOCABULARY if w)
                raise ValueError(
                    f"`caption` must consist of known words. Received: {part!r} in "
                    f"{caption!r}. The words are: {known}."
                )
            found.append(max(fits, key=len))
            part = part[len(found[-1]) :]
    return tuple(found)


def encode(captions: Sequence[str]) -> np.ndarray:
    """Return tokens, int32, shape ``(n, MAX_WORDS)``, filled up with 0.

    Args:
        captions: Sentences; an empty one says nothing.

    Raises:
        ValueError: If a word is unknown or a caption too long.
    """
    tokens = np.zeros((len(captions), MAX_WORDS), "int32")
    for row, caption in zip(tokens, captions, strict=True):
        found = [VOCABULARY[w] for w in words(caption)]
        if len(found) > MAX_WORDS:
            raise ValueError(
                f"`captions` may have {MAX_WORDS} words. Received: {len(found)} in "
                f"{caption!r}. Say less."
            )
        row[: len(found)] = found
    return tokens


def decode(tokens: np.ndarray) -> list[list[str]]:
    """Return the words of rows of tokens, without padding."""
    names = list(VOCABULARY)
    return [[names[t] for t in row if t] for row in np.atleast_2d(tokens)]


def read(images: np.ndarray, most: int = 4, least: float = 0.3) -> list[list[Thing]]:
    """Say what is where, by matching templates; exact on clean images.

    Every thing that could be drawn is tried at every position.  Its gain is the
    squared error that it saves over bare ground.  The best one is taken as long as it
    saves more than a share ``least`` of what a true one of its kind would, then its
    pixels count as ground and the search goes on.

    Args:
        images: Shape ``(n, 16, 16, 3)``, in [-1, 1].
        most: Things that are looked for in one image.
        least: The share, in (0, 1); a larger one refuses things of a pale colour.

    Returns:
        For each image the things in it, the clearest first.
    """
    images = check_images(images, "images").astype("float32")
    most, least = check_whole(most, "most"), _share(least)
    squares = [((images - np.array(c)) ** 2).sum(-1) for c in (GROUND, *_VALUES)]
    saved = np.stack([squares[0] - square for square in squares[1:]], 1)
    saved = saved.reshape(len(images), len(_VALUES), -1)  # (n, colours, 256)
    found: list[list[Thing]] = [[] for _ in images]
    left = np.arange(len(images))
    for _ in range(most):
        gains = (saved[left] @ _TEMPLATES).reshape(len(left), -1)
        at = gains.argmax(1)
        colour, place = np.unravel_index(at, (len(_VALUES), len(_PLACES)))
        share = gains[np.arange(len(left)), at] / (_WHOLE[colour] * _AREAS[place])
        keep = share > least
        left = left[keep]
        if not len(left):
            break
        for i, c, p in zip(left, colour[keep], place[keep], strict=True):
            found[i].append(Thing(list(COLOURS)[c], *_PLACES[p]))
        saved[left] *= 1.0 - _TEMPLATES.T[place[keep], None]  # now it counts as ground
    return found


def _share(least: float) -> float:
    if check_positive(least, "least") >= 1:
        raise ValueError(
            f"`least` must lie in (0, 1). Received: {least}. Not even a clean thing "
            "saves more than a true one; take 0.3."
        )
    return least


def _places() -> list[tuple[str, int, int, int]]:
    """Every shape and size at every corner where it fits."""
    return [
        (shape, size, row, column)
        for shape, size in MASKS
        for row, column in product(range(SIDE - size + 1), repeat=2)
    ]


def _templates() -> np.ndarray:
    """One column of 256 zeros and ones for each place."""
    found = np.zeros((len(_PLACES), SIDE, SIDE), "float32")
    for image, (shape, size, row, column) in zip(found, _PLACES, strict=True):
        image[row : row + size, column : column + size] = MASKS[shape, size]
    return found.reshape(len(found), -1).T


_PLACES = _places()
_TEMPLATES = _templates()  # (256, places)
_AREAS = _TEMPLATES.sum(0)
_VALUES = np.array(list(COLOURS.values()), "float32")
_WHOLE = ((_VALUES - np.array(GROUND)) ** 2).sum(-1)  # saved by one clean pixel


def to_patches(images: np.ndarray) -> np.ndarray:
    """Cut each image into 16 patches of 4 x 4 pixels, row by row.

    Args:
        images: Shape ``(n, 16, 16, 3)``.

    Returns:
        Shape ``(16 * n, 48)``.
    """
    cut = images.reshape(-1, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(-1, 48)


def from_patches(patches: np.ndarray) -> np.ndarray:
    """Join patches to images ``(n, 16, 16, 3)``; the inverse of :func:`to_patches`.

    Args:
        patches: Shape ``(16 * n, 48)``.
    """
    cut = patches.reshape(-1, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(-1, SIDE, SIDE, 3)


def judge(
    wanted: Sequence[tuple], found: Sequence[Sequence[Thing]]
) -> dict[str, np.ndarray]:
    """Compare requests with what a reader found.

    Args:
        wanted: Requests, as many as images.
        found: What is in each image, from :func:`read`.

    Returns:
        Truths ``(n,)`` under five names. ``"shapes"`` and ``"colours"``: each is there
        as often as it should be, and no other; ``"binding"``: so are the kinds, that
        is, each colour on its shape; ``"relation"``: binding holds and the things are
        where they should be (for one thing there is nothing more to ask).
    """
    rows = []
    for request, things in zip(wanted, found, strict=True):
        kinds = [part for part in request if not isinstance(part, str)]
        seen = [thing.kind for thing in things]
        colours, shapes = (
            sorted(k[i] for k in kinds) == sorted(k[i] for k in seen) for i in (0, 1)
        )
        bound = sorted(kinds) == sorted(seen)
        rows.append((shapes, colours, bound, bound and _stands(request, things)))
    names = ("shapes", "colours", "binding", "relation")
    return dict(zip(names, np.array(rows).T, strict=True))


def _stands(request: tuple, things: Sequence[Thing]) -> bool:
    """Whether two things of the right kinds are where they should be."""
    if len(request) == 1:
        return True
    first, relation, second = request
    orders = (things, things[::-1])
    return any(
        [a.kind, b.kind] == [first, second] and relation == _relation(a, b)
        for a, b in orders
    )


def _relation(a: Thing, b: Thing) -> str:
    """Where ``a`` is, seen from ``b``: along the axis on which they differ more."""
    down, right = np.subtract(a.centre, b.centre)
    if abs(down) > abs(right):
        return "above" if down < 0 else "below"
    return "left" if right < 0 else "right"
