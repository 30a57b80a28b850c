"""A player against brute force; meshes against closed forms; a file against struct."""

from __future__ import annotations

import json
import struct
from itertools import product

import numpy as np
import pytest

from genai_utils import meshes, worlds


def level(*rows):
    return np.array([[tile == "#" for tile in row] for row in rows])


def flat(width, height=9):
    solid = np.zeros((height, width), bool)
    solid[-1] = True
    return solid


def brute_force(solid, jump):
    """All places of all plays: sets of states, one move after another."""
    height, width = solid.shape

    def free(row, column):
        inside = 0 <= row < height and 0 <= column < width
        return inside and not solid[row, column]

    starts = [
        (r, c)
        for r, c in product(range(height - 1), range(min(3, width)))
        if free(r, c) and solid[r + 1, c]
    ]
    states = {(*max(starts), 0)} if starts else set()
    while True:
        new = set(states)
        for r, c, rise in states:
            if rise == 0 and r + 1 < height and solid[r + 1, c]:
                new |= {(r, c + d, 0) for d in (-1, 1) if free(r, c + d)}
                rise = jump
            if rise and free(r - 1, c):
                for d, k in product((-1, 0, 1), range(2)):
                    if free(r - 1, c + d):
                        new.add((r - 1, c + d, k * (rise - 1)))
            if rise == 0 and free(r + 1, c):
                new |= {(r + 1, c + d, 0) for d in (-1, 0, 1) if free(r + 1, c + d)}
        if new == states:
            return {(r, c) for r, c, _ in states}
        states = new


@pytest.mark.parametrize("seed", range(40))
def test_reachable_places_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    solid = rng.random((7, 9)) < rng.uniform(0.1, 0.5)
    jump = int(rng.integers(0, 4))
    found = worlds.reachable(solid, jump)
    expected = brute_force(solid, jump)
    assert set(map(tuple, np.argwhere(found).tolist())) == expected
    assert worlds.is_playable(solid, jump) == any(c == 8 for _, c in expected)


@pytest.mark.parametrize("jump", [2, 3, 4])
def test_widest_gap_and_highest_wall(jump):
    for gap, height in ((2 * jump - 1, jump), (2 * jump, jump + 1)):
        pit, wall = flat(gap + 20), flat(20)
        pit[-1, 10 : 10 + gap] = False
        wall[-1 - height :, 10] = True
        can = gap == 2 * jump - 1
        assert worlds.is_playable(pit, jump) == can
        assert worlds.is_playable(wall, jump) == can


def test_a_path_is_a_walk_through_air_from_the_start_to_the_end():
    solid = flat(30)
    solid[-1, 12:16] = False
    solid[-4:, 20] = True
    path = worlds.find_path(solid)
    assert path[0] == (7, 2) or path[0][1] < 3
    assert path[-1][1] == 29
    assert not any(solid[place] for place in path)
    assert (abs(np.diff(path, axis=0)) <= 1).all()
    assert len(worlds.find_path(flat(30))) == 28  # from the third column, straight on


def test_a_ceiling_stops_a_jump():
    solid = level(
        "....#....", "....#....", "#########"[:4] + ".####", ".........", "##.######"
    )
    assert not worlds.reachable(solid)[:2, 5:].any()


def test_no_place_to_stand_is_no_path():
    assert worlds.find_path(np.zeros((5, 6), bool)) == []
    assert worlds.find_path(np.ones((5, 6), bool)) == []


@pytest.mark.parametrize("bad", [np.zeros((3, 4)), np.zeros((1, 4), bool)])
def test_bad_levels_are_refused(bad):
    with pytest.raises(ValueError, match="`solid` must hold truth values"):
        worlds.find_path(bad)


def test_a_negative_jump_is_refused():
    with pytest.raises(ValueError, match="`jump`"):
        worlds.is_playable(flat(5), -1)


def grid(n, half=1.3):
    axis, step = np.linspace(-half, half, n + 1, retstep=True)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), step, [-half] * 3


def sphere(n, radius=1.0, center=(0, 0, 0)):
    points, step, origin = grid(n)
    values = np.linalg.norm(points - np.asarray(center), axis=-1) - radius
    return meshes.marching_tetrahedra(values, step, origin)


def test_sphere_comes_near_to_its_volume_and_area_with_the_square_of_the_step():
    errors = []
    for n in (12, 24):
        mesh = sphere(n)
        volume, area = 4 / 3 * np.pi, 4 * np.pi
        errors.append([meshes.volume(mesh) / volume - 1, meshes.area(mesh) / area - 1])
    errors = np.array(errors)
    assert (errors < 0).all() and (abs(errors[1]) < 0.007).all()
    assert np.allclose(errors[0] / errors[1], 4, rtol=0.1)


def test_vertices_lie_on_the_surface():
    mesh = sphere(20, 0.8, (0.1, -0.2, 0.3))
    distance = np.linalg.norm(mesh.vertices - [0.1, -0.2, 0.3], axis=1)
    assert abs(distance - 0.8).max() < 0.01
    assert mesh.vertices.mean(0) == pytest.approx([0.1, -0.2, 0.3], abs=0.02)


def test_a_plane_is_met_exactly_and_triangles_look_outwards():
    points, step, origin = grid(9)
    values = np.abs(points).max(-1) - 0.9  # a cube; linear near the middle of a side
    mesh = meshes.marching_tetrahedra(values, step, origin)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    normals, centres = np.cross(b - a, c - a), (a + b + c) / 3
    assert ((normals * centres).sum(-1) > -1e-12).all()
    middle = (abs(mesh.vertices[:, 1:]) < 0.5).all(1)
    assert np.allclose(abs(mesh.vertices[middle][:, 0]), 0.9)


def test_euler_numbers_of_a_sphere_two_spheres_and_a_torus():
    points, step, origin = grid(26)
    pair = np.minimum(
        np.linalg.norm(points - [0.7, 0, 0], axis=-1),
        np.linalg.norm(points + [0.7, 0, 0], axis=-1),
    )
    ring = np.hypot(np.hypot(points[..., 0], points[..., 1]) - 0.8, points[..., 2])
    two = meshes.marching_tetrahedra(pair - 0.4, step, origin)
    torus = meshes.marching_tetrahedra(ring - 0.3, step, origin)
    assert meshes.euler_number(sphere(12).faces) == 2
    assert meshes.euler_number(two.faces) == 4
    assert meshes.euler_number(torus.faces) == 0
    exact = 2 * np.pi**2 * 0.8 * 0.3**2
    assert meshes.volume(torus) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_any_values_give_a_closed_surface(seed):
    values = np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], (6, 7, 8))
    mesh = meshes.marching_tetrahedra(np.pad(values, 1, constant_values=1.0))
    assert meshes.is_watertight(mesh.faces)
    assert (meshes.edge_uses(mesh.faces) == 2).all()


def test_a_hole_or_a_turned_triangle_is_noticed():
    faces = sphere(8).faces
    assert meshes.is_watertight(faces)
    assert not meshes.is_watertight(faces[1:])
    turned = np.concatenate([faces[1:], faces[:1, ::-1]])
    assert (meshes.edge_uses(turned) == 2).all()
    assert not meshes.is_watertight(turned)


TETRAHEDRON = meshes.Mesh(
    np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
    (0.2, 0.4, 0.6),
)


def test_volume_and_area_of_a_tetrahedron_with_a_pencil():
    assert meshes.volume(TETRAHEDRON) == pytest.approx(1 / 6)
    assert meshes.area(TETRAHEDRON) == pytest.approx(1.5 + np.sqrt(3) / 2)
    assert meshes.is_watertight(TETRAHEDRON.faces)
    moved = TETRAHEDRON._replace(vertices=TETRAHEDRON.vertices + [3.0, -5.0, 2.0])
    assert meshes.volume(moved) == pytest.approx(1 / 6)


@pytest.mark.parametrize("values", [np.ones((4, 4, 4)), -np.ones((4, 4, 4))])
def test_a_surface_must_be_inside_the_grid(values):
    with pytest.raises(ValueError, match="`values` must be negative somewhere"):
        meshes.marching_tetrahedra(values)


def test_a_file_holds_what_the_specification_says(tmp_path):
    path = tmp_path / "x.glb"
    size = meshes.write_glb(path, TETRAHEDRON)
    raw = path.read_bytes()
    assert len(raw) == size and size % 4 == 0
    assert struct.unpack_from("<III", raw) == (0x46546C67, 2, size)
    length, kind = struct.unpack_from("<I4s", raw, 12)
    assert kind == b"JSON" and length % 4 == 0
    document = json.loads(raw[20 : 20 + length])
    rest, kind = struct.unpack_from("<I4s", raw, 20 + length)
    blob = raw[28 + length :]
    assert kind == b"BIN\0" and rest == len(blob)
    assert document["asset"]["version"] == "2.0"
    assert document["buffers"] == [{"byteLength": len(blob)}]
    points, indices = document["accessors"]
    assert (points["type"], points["componentType"], points["count"]) == (
        "VEC3",
        5126,
        4,
    )
    assert points["min"] == [0, 0, 0] and points["max"] == [1, 1, 1]
    assert (indices["type"], indices["componentType"]) == ("SCALAR", 5125)
    assert struct.unpack_from("<12f", blob) == tuple(TETRAHEDRON.vertices.ravel())
    assert struct.unpack_from("<12I", blob, 48) == tuple(TETRAHEDRON.faces.ravel())
    part = document["meshes"][0]["primitives"][0]
    assert part["attributes"]["POSITION"] == 0 and part["indices"] == 1
    look = document["materials"][0]["pbrMetallicRoughness"]
    assert look["baseColorFactor"] == [0.2, 0.4, 0.6, 1.0]
    targets = [view["target"] for view in document["bufferViews"]]
    assert targets == [34962, 34963]


def test_two_meshes_come_back(tmp_path):
    path, first = tmp_path / "x.glb", sphere(8)
    meshes.write_glb(path, first, TETRAHEDRON)
    back = meshes.read_glb(path)
    assert [m.faces.tolist() for m in back] == [
        first.faces.tolist(),
        TETRAHEDRON.faces.tolist(),
    ]
    assert np.allclose(back[0].vertices, first.vertices, atol=1e-6)
    assert back[1].color == (0.2, 0.4, 0.6)


def test_damaged_files_and_bad_meshes_are_refused(tmp_path):
    path = tmp_path / "x.glb"
    meshes.write_glb(path, TETRAHEDRON)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="whole binary glTF"):
        meshes.read_glb(path)
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="whole binary glTF"):
        meshes.read_glb(path)
    with pytest.raises(ValueError, match="`meshes` must hold one or more"):
        meshes.write_glb(path)
    with pytest.raises(ValueError, match="`faces`"):
        meshes.write_glb(path, TETRAHEDRON._replace(faces=np.array([[0, 1, 4]])))
