"""Triangle meshes: from a grid of values to a surface, and to a file for a headset."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from genai_utils.checks import check_array, check_positive

__all__ = [
    "Mesh",
    "area",
    "edge_uses",
    "euler_number",
    "is_watertight",
    "marching_tetrahedra",
    "read_glb",
    "volume",
    "write_glb",
]

_JSON, _BIN = 0x4E4F534A, 0x004E4942  # types of the two chunks of a .glb
_FLOAT, _UINT = 5126, 5125  # types of numbers in glTF
# A unit cube is cut into six tetrahedra, each a way from one corner to the opposite.
_STEPS = [
    [np.zeros(3, int), *np.eye(3, dtype=int)[list(p)]] for p in permutations(range(3))
]
_TETRAHEDRA = np.cumsum(_STEPS, axis=1)  # (6, 4, 3)
# Triangles for 1, 2 and 3 corners inside; the inside ones come first. Each corner of
# a triangle lies on an edge from an inside to an outside corner.
_TRIANGLES = {
    1: [[(0, 1), (0, 2), (0, 3)]],
    2: [[(0, 2), (0, 3), (1, 3)], [(0, 2), (1, 3), (1, 2)]],
    3: [[(0, 3), (1, 3), (2, 3)]],
}


class Mesh(NamedTuple):
    """Triangles that share their corners.

    Args:
        vertices: Corners, shape ``(V, 3)``.
        faces: Indices of three corners, shape ``(F, 3)``; from outside they run
            against the clock.
        color: Red, green and blue in [0, 1].
    """

    vertices: np.ndarray
    faces: np.ndarray
    color: Sequence[float] = (0.7, 0.7, 0.7)


def marching_tetrahedra(
    values: np.ndarray, spacing: float = 1.0, origin: Sequence[float] = (0, 0, 0)
) -> Mesh:
    r"""Return the surface where a function on a grid passes through zero.

    Each cube is cut into six tetrahedra; where a function that is linear on an edge
    from ``a`` (inside, :math:`f_a < 0`) to ``b`` crosses zero, there is a corner:

    .. math:: v = a + \frac{f_a}{f_a - f_b}\,(b - a).

    The surface is closed, whatever the values.

    Args:
        values: Shape ``(I, J, K)``, negative inside; not on the border of the grid.
        spacing: From one grid point to the next, above 0.
        origin: Where the grid point ``[0, 0, 0]`` lies.

    Returns:
        The mesh.

    Raises:
        ValueError: If nothing is inside, or the inside reaches the border.

    Reference:
        Doi and Koide (1991).
    """
    values = check_array(values, "values", ndim=3)
    check_positive(spacing, "spacing")
    inside = values < 0
    core = inside[1:-1, 1:-1, 1:-1]
    if not core.any() or core.sum() != inside.sum():
        raise ValueError(
            "`values` must be negative somewhere inside the grid and nowhere on its "
            f"border. Received: {inside.sum()} negative values, {core.sum()} of them "
            "off the border. Move the surface, or make the grid larger."
        )
    edges = _crossed_edges(inside)  # (F, 3, 2)
    pairs, faces = np.unique(edges.reshape(-1, 2), axis=0, return_inverse=True)
    f = values.ravel()[pairs].astype("float64")  # (V, 2)
    a, b = (np.stack(np.unravel_index(i, values.shape), 1) for i in pairs.T)
    share = f[:, :1] / (f[:, :1] - f[:, 1:])
    vertices = np.asarray(origin) + spacing * (a + share * (b - a))
    return Mesh(vertices, faces.reshape(-1, 3))


def _crossed_edges(inside: np.ndarray) -> np.ndarray:
    """Triangles, each corner as the grid points of an edge (inside, outside)."""
    count = sliding_window_view(inside, (2, 2, 2)).sum(axis=(3, 4, 5))
    cubes = np.argwhere((count > 0) & (count < 8))  # (n, 3)
    corners = (cubes[:, None, None] + _TETRAHEDRA).reshape(-1, 4, 3)  # (6n, 4, 3)
    ids = np.ravel_multi_index(np.moveaxis(corners, -1, 0), inside.shape)
    order = np.argsort(~inside.ravel()[ids], axis=1, kind="stable")  # inside first
    ids = np.take_along_axis(ids, order, 1)
    corners = np.take_along_axis(corners, order[..., None], 1)
    turned = np.linalg.det(corners[:, 1:] - corners[:, :1]) < 0
    number = inside.ravel()[ids].sum(axis=1)
    found = []
    for n, triangles in _TRIANGLES.items():
        for triangle in triangles:
            edges = ids[number == n][:, np.array(triangle)]  # (m, 3, 2)
            flip = turned[number == n, None, None]
            found.append(np.where(flip, edges[:, ::-1], edges))
    return np.concatenate(found)


def edge_uses(faces: np.ndarray) -> np.ndarray:
    """Return how many triangles share each edge.

    Args:
        faces: Shape ``(F, 3)``.

    Returns:
        One number for each edge.
    """
    edges = np.sort(_directed(faces), axis=1)
    return np.unique(edges, axis=0, return_counts=True)[1]


def is_watertight(faces: np.ndarray) -> bool:
    """Say whether a surface is closed.

    Args:
        faces: Shape ``(F, 3)``.

    Returns:
        Whether each edge belongs to two triangles that run along it in opposite
        directions.
    """
    directed = _directed(faces)
    once = len(np.unique(directed, axis=0)) == len(directed)
    return bool(once and (edge_uses(faces) == 2).all())


def euler_number(faces: np.ndarray) -> int:
    """Return vertices less edges plus faces: 2 for each sphere, 0 for a torus.

    Args:
        faces: Shape ``(F, 3)``.
    """
    faces = check_array(faces, "faces", shape=(None, 3), low=0)
    return len(np.unique(faces)) - len(edge_uses(faces)) + len(faces)


def _directed(faces: np.ndarray) -> np.ndarray:
    """The three edges of each triangle, from corner to corner."""
    faces = check_array(faces, "faces", shape=(None, 3), low=0)
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def volume(mesh: Mesh) -> float:
    r"""Return the volume in a closed surface, by the divergence theorem.

    .. math:: V = \frac16 \sum_{(a, b, c)} a \cdot (b \times c)

    Args:
        mesh: Closed, its triangles running against the clock from outside.
    """
    a, b, c = np.moveaxis(np.asarray(mesh.vertices)[mesh.faces], 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def area(mesh: Mesh) -> float:
    """Return the sum of the areas of the triangles.

    Args:
        mesh: Any mesh.
    """
    a, b, c = np.moveaxis(np.asarray(mesh.vertices)[mesh.faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def write_glb(path: str | os.PathLike, *meshes: Mesh) -> int:
    """Write meshes as one binary glTF 2.0 file.

    In glTF the second coordinate points up and the unit is the metre.

    Args:
        path: Where to write; the name should end in ``.glb``.
        *meshes: What to write, at least one.

    Returns:
        Bytes that were written.

    Raises:
        ValueError: If there is no mesh, or a face names a vertex that is not there.

    Reference:
        The Khronos Group (2021), glTF 2.0 specification, section 4.4.
    """
    if not meshes:
        raise ValueError("`meshes` must hold one or more. Received: none. Pass a Mesh.")
    views, accessors, parts, blob = [], [], [], b""
    for mesh in meshes:
        points = check_array(mesh.vertices, "vertices", shape=(None, 3))
        faces = check_array(
            mesh.faces, "faces", shape=(None, 3), low=0, high=len(points) - 1
        )
        for array, dtype in ((points, "<f4"), (faces.ravel(), "<u4")):
            array = array.astype(dtype)
            views.append(_view(array, len(blob)))
            accessors.append(_accessor(array, len(accessors)))
            blob += array.tobytes()
        at = len(accessors) - 2
        part = {"attributes": {"POSITION": at}, "indices": at + 1}
        parts.append(part | {"material": len(parts)})
    document = _document(meshes, parts) | {
        "buffers": [{"byteLength": len(blob)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), _JSON) + text
    chunks += struct.pack("<II", len(blob), _BIN) + blob
    header = struct.pack("<4sII", b"glTF", 2, 12 + len(chunks))
    return Path(path).write_bytes(header + chunks)


def _view(array: np.ndarray, offset: int) -> dict[str, int]:
    target = 34962 if array.ndim == 2 else 34963  # vertices, indices
    sizes = {"byteOffset": offset, "byteLength": array.nbytes}
    return {"buffer": 0, **sizes, "target": target}


def _accessor(array: np.ndarray, view: int) -> dict[str, Any]:
    numbers, kind = (_FLOAT, "VEC3") if array.ndim == 2 else (_UINT, "SCALAR")
    found = {"bufferView": view, "componentType": numbers, "count": len(array)}
    limits = {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
    return {**found, "type": kind, **(limits if array.ndim == 2 else {})}


def _document(meshes: Sequence[Mesh], parts: list[dict]) -> dict[str, Any]:
    looks = [{"baseColorFactor": [*map(float, m.color), 1.0]} for m in meshes]
    return {
        "asset": {"version": "2.0", "generator": "genai_utils"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": parts}],
        "materials": [{"pbrMetallicRoughness": look} for look in looks],
    }


def read_glb(path: str | os.PathLike) -> list[Mesh]:
    """Read the meshes of a file that :func:`write_glb` wrote.

    Args:
        path: The file.

    Returns:
        The meshes.

    Raises:
        ValueError: If it is no binary glTF 2.0, or is cut short.
    """
    raw = Path(path).read_bytes()
    head = struct.unpack_from("<4sII", raw) if len(raw) >= 12 else (raw[:4], 0, 0)
    if head != (b"glTF", 2, len(raw)):
        raise ValueError(
            "`path` must name a whole binary glTF 2.0 file. Received: header "
            f"{head}, {len(raw)} bytes. Write it again with `write_glb`."
        )
    (size,) = struct.unpack_from("<I", raw, 12)
    document = json.loads(raw[20 : 20 + size])
    blob = raw[20 + size + 8 :]
    arrays = [_array(document, blob, a) for a in document["accessors"]]
    found = []
    for part in document["meshes"][0]["primitives"]:
        look = document["materials"][part["material"]]["pbrMetallicRoughness"]
        faces = arrays[part["indices"]].reshape(-1, 3)
        color = tuple(look["baseColorFactor"][:3])
        found.append(Mesh(arrays[part["attributes"]["POSITION"]], faces, color))
    return found


def _array(document: dict, blob: bytes, accessor: dict) -> np.ndarray:
    view = document["bufferViews"][accessor["bufferView"]]
    dtype = "<f4" if accessor["componentType"] == _FLOAT else "<u4"
    raw = blob[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    return np.frombuffer(raw, dtype).reshape(accessor["count"], -1)
