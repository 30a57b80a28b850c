"""Ratings: files read, likes filtered, splits that hide what they should."""

from __future__ import annotations

import numpy as np
import pytest

from genai_utils.data import ratings as module
from genai_utils.data.fetch import fetch, registry
from genai_utils.data.ratings import (
    Ratings,
    find_likes,
    fold_in,
    movietweetings,
    read_films,
    read_ratings,
    some_likes,
    split_users,
)

LINES = "1::10::8::300\n1::20::7::100\n2::10::9::200\n2::30::3::400\n3::20::10::50\n"
FILMS = "0000010::Fantômas (2): Part One (1913)::Crime|Drama\n0000020::Up (2009)::\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ratings.dat").write_text(LINES, "utf-8")
    (tmp_path / "movies.dat").write_text(FILMS, "utf-8")
    return tmp_path


def random_ratings(n=400, users=30, items=20, seed=0):
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(users * items)[:n]
    values, times = rng.integers(0, 11, n), rng.integers(0, 10_000, n)
    return Ratings(pairs // items + 100, pairs % items + 500, values, times)


def test_ratings_are_read_in_order(folder):
    ratings = read_ratings(folder / "ratings.dat")
    assert len(ratings) == 5
    assert ratings.users.tolist() == [1, 1, 2, 2, 3]
    assert ratings.items.tolist() == [10, 20, 10, 30, 20]
    assert ratings.values.tolist() == [8, 7, 9, 3, 10]
    assert ratings.times.tolist() == [300, 100, 200, 400, 50]


def test_films_have_titles_years_and_genres(folder):
    films = read_films(folder / "movies.dat")
    assert films[10].title == "Fantômas (2): Part One" and films[10].year == 1913
    assert films[10].genres == ("Crime", "Drama")
    assert films[20].genres == ()


@pytest.mark.parametrize(
    "text", ["", "1::2::3\n", "1::2::3::4\n1::2\n", "a::b::c::d\n"]
)
def test_a_file_of_another_form_is_refused(tmp_path, text):
    (tmp_path / "bad.dat").write_text(text, "utf-8")
    with pytest.raises(ValueError, match="Received"):
        read_ratings(tmp_path / "bad.dat")


@pytest.mark.parametrize("text", ["10::Up::Drama\n", "x::Up (2009)::Drama\n"])
def test_films_of_another_form_are_refused(tmp_path, text):
    (tmp_path / "bad.dat").write_text(text, "utf-8")
    with pytest.raises(ValueError, match="Trainspotting"):
        read_films(tmp_path / "bad.dat")


def test_a_set_in_the_data_folder_is_found(folder, monkeypatch):
    files = {
        n: folder / n.split("/")[1] for n in ("100K/ratings.dat", "100K/movies.dat")
    }
    known = {"movietweetings": {"files": {n: {"name": n} for n in files}}}
    monkeypatch.setattr(module, "registry", lambda: known)
    monkeypatch.setattr(module, "fetch", lambda name, file: files[file["name"]])
    movietweetings.cache_clear()
    ratings, films = movietweetings()
    movietweetings.cache_clear()
    assert len(ratings) == 5 and films[20].title == "Up"


def test_the_published_set():
    files = registry()["movietweetings"]["files"]
    try:
        fetch("movietweetings", files["100K/ratings.dat"])
    except OSError as error:
        pytest.skip(f"movietweetings is not here: {str(error)[:80]}")
    ratings, films = movietweetings()
    assert len(ratings) == 100_000 and len(films) == 10_506
    assert set(ratings.items.tolist()) <= set(films)
    assert ratings.values.min() >= 0 and ratings.values.max() == 10
    pairs = set(zip(ratings.users.tolist(), ratings.items.tolist(), strict=True))
    assert len(pairs) == len(ratings)  # nobody rates a film twice


def test_likes_keep_what_a_slow_filter_keeps():
    ratings = random_ratings()
    kept = {
        (u, i)
        for u, i, v in zip(ratings.users, ratings.items, ratings.values, strict=True)
        if v >= 5
    }
    while True:  # drop one poor user or film at a time
        users = [u for u, _ in kept]
        items = [i for _, i in kept]
        poor = [u for u in set(users) if users.count(u) < 6]
        bare = [i for i in set(items) if items.count(i) < 8]
        if not poor and not bare:
            break
        kept = {(u, i) for u, i in kept if u not in poor[:1] and (poor or i != bare[0])}
    likes = find_likes(ratings, bar=5, per_user=6, per_item=8)
    found = zip(likes.users[likes.rows], likes.items[likes.columns], strict=True)
    assert set(found) == kept and 0 < len(kept) < 240
    assert len(likes.rows) == len(kept)
    assert (np.diff(likes.times) >= 0).all()


def test_times_stay_with_their_likes():
    ratings = random_ratings()
    likes = find_likes(ratings, 5, 1, 1)
    when = {
        (u, i): t
        for u, i, t in zip(ratings.users, ratings.items, ratings.times, strict=True)
    }
    users, items = likes.users[likes.rows], likes.items[likes.columns]
    assert [when[p] for p in zip(users, items, strict=True)] == likes.times.tolist()


def test_matrix_of_some_likes():
    likes = find_likes(random_ratings(), 5, 1, 1)
    early = likes.times < 4000
    x = likes.matrix(early)
    assert x.shape == likes.shape and x.dtype == np.float32
    assert x.sum() == early.sum()
    assert (x + likes.matrix(~early) == likes.matrix()).all()


def test_likes_must_be_left():
    with pytest.raises(ValueError, match="leave none"):
        find_likes(random_ratings(), 5, 100, 1)
    with pytest.raises(ValueError, match="per_user"):
        find_likes(random_ratings(), 5, 0, 1)


def test_users_are_dealt_out_once():
    parts = split_users(50, (10, 15), seed=3)
    assert [len(p) for p in parts] == [25, 10, 15]
    assert sorted(np.concatenate(parts)) == list(range(50))
    assert all((np.diff(p) > 0).all() for p in parts)
    again = split_users(50, (10, 15), seed=3)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    assert (split_users(50, (10, 15), seed=4)[0] != parts[0]).any()


@pytest.mark.parametrize("sizes", [(50,), (20, 30), (0, 3)])
def test_groups_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes"):
        split_users(50, sizes)


def test_fold_in_hides_a_share_of_the_likes():
    x = (np.random.default_rng(0).random((300, 40)) < 0.4).astype("float32")
    x = x[x.sum(axis=1) >= 2]
    shown, hidden = fold_in(x, 0.25, seed=1)
    assert (shown + hidden == x).all() and shown.min() == 0 == hidden.min()
    likes = x.sum(axis=1)
    assert (hidden.sum(axis=1) == np.clip(np.round(0.25 * likes), 1, likes - 1)).all()
    # every like is hidden equally often, wherever it stands
    rates = np.mean(
        [fold_in(x, 0.25, seed=s)[1].sum(axis=0) for s in range(200)], axis=0
    )
    expected = (x * (hidden.sum(axis=1) / likes)[:, None]).sum(axis=0)
    np.testing.assert_allclose(rates, expected, rtol=0.08)


def test_two_likes_are_cut_in_one_and_one():
    shown, hidden = fold_in(np.eye(4, 6) + np.eye(4, 6, 2), 0.9)
    assert (shown.sum(axis=1) == 1).all() and (hidden.sum(axis=1) == 1).all()


@pytest.mark.parametrize(("x", "share"), [(np.eye(3), 0.2), (np.ones((2, 4)), 1.0)])
def test_fold_in_refuses(x, share):
    with pytest.raises(ValueError, match="two"):
        fold_in(x, share)


def test_some_likes_grow_and_never_overlap():
    x = (np.random.default_rng(0).random((50, 30)) < 0.5).astype("float32")
    goal = some_likes(x, 0, 3)
    few, more = some_likes(x, 3, 2), some_likes(x, 3, 5)
    assert (goal.sum(axis=1) == 3).all() and (few.sum(axis=1) == 2).all()
    assert (few <= more).all() and (more <= x).all() and not (goal * more).any()
    assert some_likes(x, 0, 0).sum() == 0
    assert (some_likes(x, 0, 99) == x).all()
    assert (some_likes(x, 0, 3, seed=1) != goal).any()
