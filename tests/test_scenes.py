"""Scenes: every sentence once, the reader against what was drawn, tokens and errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from genai_utils.data import scenes

EVERYTHING = scenes.requests()
RED_BLUE = (("red", "circle"), "left", ("blue", "square"))


def test_every_sentence_is_said_once_in_each_language():
    assert len(EVERYTHING) == 12 + 4 * 12 * 12
    for language in ("en", "zh"):
        said = {scenes.say(r, language) for r in EVERYTHING}
        assert len(said) == len(EVERYTHING)
    assert scenes.say(RED_BLUE) == "a red circle left of a blue square"
    assert scenes.say(RED_BLUE, "zh") == "红色的圆在蓝色的方块左边"
    assert scenes.say((("green", "triangle"),)) == "a green triangle"
    assert len(scenes.requests(lambda r: len(r) == 1)) == 12


def test_things_lie_inside_apart_and_as_they_are_asked_for():
    images, things = scenes.draw(EVERYTHING, 3)
    assert images.shape == (588, 16, 16, 3) and images.dtype == np.float32
    for request, scene in zip(EVERYTHING, things, strict=True):
        kinds = [part for part in request if not isinstance(part, str)]
        assert [t.kind for t in scene] == kinds
        for t in scene:
            assert 0 <= t.row <= 16 - t.size and 0 <= t.column <= 16 - t.size
        if len(scene) == 2:
            a, b = scene
            gaps = {
                "left": b.column - a.column - a.size,
                "right": a.column - b.column - b.size,
                "above": b.row - a.row - a.size,
                "below": a.row - b.row - b.size,
            }
            assert gaps[request[1]] >= 1
    sizes = [t.size for scene in things for t in scene]
    assert 0.4 < np.mean(np.array(sizes) == 5) < 0.6


def test_a_scene_is_drawn_pixel_by_pixel():
    things = [scenes.Thing("red", "square", 5, 2, 4)]
    image = scenes.render(things)
    inside = np.zeros((16, 16), bool)
    inside[2:7, 4:9] = True
    np.testing.assert_allclose(image[inside], [scenes.COLOURS["red"]] * 25)
    np.testing.assert_allclose(image[~inside], [scenes.GROUND] * (256 - 25))


def test_reader_is_exact_on_every_kind_size_and_position():
    wanted, images = [], []
    for colour, shape, size in itertools.product(
        scenes.COLOURS, scenes.SHAPES, scenes.SIZES
    ):
        for row, column in itertools.product(range(0, 17 - size, 3), repeat=2):
            wanted.append([scenes.Thing(colour, shape, size, row, column)])
            images.append(scenes.render(wanted[-1]))
    assert scenes.read(np.stack(images)) == wanted


def test_reader_is_exact_on_pairs_and_nearly_so_in_noise():
    images, things = scenes.draw(EVERYTHING, 5)
    found = scenes.read(images)
    assert [sorted(f) for f in found] == [sorted(t) for t in things]
    noise = 0.3 * np.random.default_rng(0).standard_normal(images.shape)
    marks = scenes.judge(EVERYTHING, scenes.read(np.clip(images + noise, -1, 1)))
    assert marks["relation"].mean() > 0.99


def test_reader_counts_and_finds_nothing_on_bare_ground():
    corners = [(0, 0), (0, 11), (11, 0), (11, 11)]
    many = [scenes.Thing("blue", "circle", 5, r, c) for r, c in corners]
    image = scenes.render(many)[None]
    assert sorted(scenes.read(image)[0]) == sorted(many)
    assert len(scenes.read(image, most=2)[0]) == 2
    bare = scenes.render([])[None]
    assert scenes.read(np.concatenate([bare, 0 * bare])) == [[], []]


@pytest.mark.parametrize(
    ("things", "marks"),
    [
        ([("red", "circle", 3, 0), ("blue", "square", 3, 8)], (1, 1, 1, 1)),
        ([("blue", "square", 3, 8), ("red", "circle", 3, 0)], (1, 1, 1, 1)),
        ([("red", "circle", 3, 8), ("blue", "square", 3, 0)], (1, 1, 1, 0)),
        ([("red", "circle", 0, 3), ("blue", "square", 8, 3)], (1, 1, 1, 0)),
        ([("blue", "circle", 3, 0), ("red", "square", 3, 8)], (1, 1, 0, 0)),
        ([("red", "circle", 3, 0), ("red", "square", 3, 8)], (1, 0, 0, 0)),
        ([("red", "circle", 3, 0), ("blue", "circle", 3, 8)], (0, 1, 0, 0)),
        ([("red", "circle", 3, 0)], (0, 0, 0, 0)),
        ([], (0, 0, 0, 0)),
    ],
)
def test_judge_asks_four_questions(things, marks):
    found = [scenes.Thing(c, s, 5, row, column) for c, s, row, column in things]
    given = scenes.judge([RED_BLUE], [found])
    assert tuple(int(v[0]) for v in given.values()) == marks
    assert list(given) == ["shapes", "colours", "binding", "relation"]


def test_judge_asks_nothing_about_the_place_of_one_thing():
    found = [scenes.Thing("red", "circle", 5, 0, 0)]
    marks = scenes.judge([(("red", "circle"),)], [found])
    assert all(v[0] for v in marks.values())


def test_words_and_tokens_are_inverse():
    for request in EVERYTHING[::7]:
        for language in ("en", "zh"):
            caption = scenes.say(request, language)
            row = scenes.encode([caption])
            glue = " " if language == "en" else ""
            assert glue.join(scenes.decode(row)[0]) == caption
    assert not scenes.encode([""]).any()
    assert scenes.encode(["a red circle"]).shape == (1, scenes.MAX_WORDS)


@pytest.mark.parametrize(
    "caption", ["a dragon", "three red circles", "红色的龙", "redd"]
)
def test_unknown_words_are_refused(caption):
    with pytest.raises(ValueError, match=r"known words. Received: '.+' in"):
        scenes.encode([caption])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"may have 13 words\. Received: 15"):
        scenes.encode(["a " * 15])
    with pytest.raises(ValueError, match="`language` must be one of"):
        scenes.say(RED_BLUE, "fr")
    with pytest.raises(ValueError, match="`images` must have 4 axes"):
        scenes.read(np.zeros((16, 16, 3)))
    with pytest.raises(ValueError, match=r"`images` must lie in \[-1.0, 1.0\]"):
        scenes.read(np.full((1, 16, 16, 3), 2.0))


def test_a_stricter_reader_refuses_pale_things():
    clean, things = scenes.draw(EVERYTHING[12:62], 1)
    ground = np.float32(scenes.GROUND)
    # of a colour c, moved by 0.3 of the way to the ground g, the share that is saved
    # is (|x - g|^2 - |x - c|^2) / |c - g|^2 = 0.7^2 - 0.3^2 = 0.4
    pale = 0.7 * clean + 0.3 * ground
    assert [sorted(f) for f in scenes.read(pale)] == [sorted(t) for t in things]
    assert scenes.read(pale, least=0.5) == [[]] * 50
    with pytest.raises(ValueError, match=r"`least` must lie in \(0, 1\)"):
        scenes.read(pale, least=1.0)


def test_patches_hold_four_by_four_pixels_and_can_be_joined():
    images, _ = scenes.draw(EVERYTHING[:5], 1)
    patches = scenes.to_patches(images)
    assert patches.shape == (80, 48)
    np.testing.assert_array_equal(
        patches[16 + 4 + 2].reshape(4, 4, 3), images[1, 4:8, 8:12]
    )
    np.testing.assert_array_equal(scenes.from_patches(patches), images)
