"""Diffusion and the field of scores in the page: numbers, keyboard, mouse, everyone.

The goldens come from ``python -m tools.export_models diffusion``.  A page is loaded
once for many checks.  A fault is planted by importing a module again, changed on its
way to the browser; the comparison that passes without it must then fail.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from browser import page_checks as checks
from browser.test_demos import plant
from tools import export_diffusion as export

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "goldens" / "diffusion.npz"
PAGES = {k: f"book/demo-{k}.html" for k in ("diffusion", "scores")}
MOST = 2e-5  # that a number may differ from Keras' and NumPy's

LOOK = """async ([url, key, file, x, times, labels]) => {
    const { Denoiser, load } = await import(`${url}runtime.js${key}`);
    const model = await load(file, Denoiser);
    const points = Float32Array.from(x.flat());
    return times.map((t) => Array.from(model.predict(points, t, labels)));
}"""
WALK = """async ([url, key, file, walks, seed, n]) => {
    const { Denoiser, load } = await import(`${url}runtime.js`);
    const { Walk } = await import(`${url}samplers.js${key}`);
    const model = await load(file, Denoiser);
    return walks.map(([sampler, calls, label, guidance]) => {
        const turns = Array.from({ length: n }, (_, i) => i % model.header.classes);
        const labels = label === -2 ? null : label === -1 ? turns : turns.fill(label);
        const walk = new Walk(model, { sampler, calls, labels, guidance, seed, n });
        while (!walk.done) walk.step();
        return Array.from(walk.states.at(-1));
    });
}"""
SCORE = """async ([url, key, places]) => {
    const { NoisyRing } = await import(`${url}langevin.js${key}`);
    const h = 1e-5;
    let worst = 0;
    const found = [];
    for (const [x, y, sigma] of places) {
        const ring = new NoisyRing(sigma, "unequal");
        const slope = (u, v) =>
            (ring.logDensity(x + u, y + v) - ring.logDensity(x - u, y - v)) / (2 * h);
        const [a, b] = ring.score(x, y);
        const size = 1 + Math.hypot(a, b);
        worst = Math.max(worst, Math.abs(a - slope(h, 0)) / size);
        worst = Math.max(worst, Math.abs(b - slope(0, h)) / size);
        found.push(new NoisyRing(sigma).score(x, y));
    }
    return { worst, found };
}"""
# Particles of one spot keep its width: variance 0.01, a little more with finite steps.
WIDTH = """async ([url, key]) => {
    const { NoisyRing } = await import(`${url}langevin.js${key}`);
    const { gaussian, uniform } = await import(url + "noise.js");
    const normal = gaussian(uniform(4));
    const [ring, points] = [new NoisyRing(0), new Float64Array(1000)];
    for (let i = 0; i < 1000; i += 2) points[i] = 2;
    for (let k = 0; k < 150; k++) ring.step(points, 1e-3, normal);
    return points.reduce((sum, v, i) => sum + (v - (i % 2 ? 0 : 2)) ** 2, 0) / 1000;
}"""


@functools.cache
def goldens() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture
def demo(page, site_url):
    """Open a demo, with a query if one is given, and wait until it runs."""

    def open_demo(kind: str, query: str = "", page=page):
        page.goto(site_url + PAGES[kind] + query)
        page.locator(f'[data-kind="{kind}"]').scroll_into_view_if_needed()
        figure = page.locator(f'[data-kind="{kind}"][data-state="running"]')
        figure.wait_for()
        return figure

    return open_demo


def state(figure) -> dict:
    """The settings, once the walk has ended."""
    figure.page.wait_for_function(
        """f => { const { walk, key } = f.playground;
            return !walk || (walk.done && walk.key === key); }""",
        arg=figure.element_handle(),
        timeout=120_000,  # the machine may be busy
    )
    return figure.evaluate("f => ({...f.playground.state})")


def shown(figure) -> dict:
    state(figure)
    return figure.evaluate("f => ({...f.playground.shown})")


def field(figure, name: str):
    return figure.get_by_label(name, exact=True)


def press(figure, name: str, key: str = "Enter", times: int = 1) -> None:
    """Press a key on a button, or on a labelled control."""
    control = figure.get_by_role("button", name=name, exact=True)
    if not control.count():
        control = field(figure, name)
    for _ in range(times):
        control.press(key)


def plant_again(page, module: str, old: str, new: str, number: int) -> str:
    """Serve a changed module to whoever imports it with the key that is returned."""

    def handle(route):
        text = route.fetch().text()
        assert text.count(old) == 1, f"{module} no longer holds {old!r}"
        route.fulfill(body=text.replace(old, new), content_type="text/javascript")

    key = f"?fault={number}"
    page.route(re.compile(re.escape(f"/{module}{key}") + "$"), handle)
    return key


def scripts_url(page) -> str:
    """The address of the folder of the scripts."""
    script = page.locator('script[src*="/main.js"]')
    return script.evaluate("e => e.src").split("main.js")[0]


def file_of(page, name: str) -> str:
    """The address of a model; its bytes are those that are committed."""
    urls = page.locator("[data-model]").get_attribute("data-model").split()
    return urls[list(export.SETS).index(name)]


def look_error(page, name: str, key: str = "") -> float:
    golden = goldens()
    x, labels, v = (golden[f"{name}_{part}"] for part in ("x", "labels", "v"))
    settings = [file_of(page, name), x.tolist(), list(export.TIMES), labels.tolist()]
    found = page.evaluate(LOOK, [scripts_url(page), key, *settings])
    return float(np.abs(np.reshape(found, v.shape) - v).max())


def walk_errors(page, name: str, key: str = "", which=range(6)) -> np.ndarray:
    """The largest difference from the package, by golden walk."""
    walks = goldens()[f"{name}_walks"][list(which)]
    settings = [list(export.WALKS[k]) for k in which]
    settings = [file_of(page, name), settings, export.SEED, export.POINTS]
    found = page.evaluate(WALK, [scripts_url(page), key, *settings])
    return np.abs(np.reshape(found, walks.shape) - walks).max(axis=(1, 2))


LOOK_FAULTS = (
    ("Math.PI * 2 ** k * t", "Math.PI * k * t"),
    ("...angles.map(Math.cos)", "...angles.map(Math.sin)"),
    ("v / (1 + Math.exp(-v))", "1 / (1 + Math.exp(-v))"),
    ("weight[id * outputs + i]", "weight[i]"),
    ("y[k] += shift[o]", "y[k] += 0 * shift[o]"),
    ("shifts.get(id);", "shifts.get(labels[0]);"),
    ("d * weight[m + o]", "a * weight[m + o]"),
)
WALK_FAULTS = (
    ("1 - beta) * (1 - after)", "1 - beta) * (1 - now)"),
    ("+ spread * walk.normal()", ""),
    ("signal * g + noise * eps[i]", "signal * g"),
    ("0.5 * (e + second[i])", "e"),
    ("this.guidance * (told[i] - e)", "told[i] - e"),
    ("signal * v[i] + noise * a", "v[i]"),
    ("low + (low % 2)", "low"),
    ("** (1 / rho), largest", ", largest"),
    ("(2 / Math.PI) * Math.acos", "Math.acos"),
)


def test_networks_and_walks_equal_keras_and_faults_are_found(demo, page):
    golden = goldens()
    figure = demo("diffusion", "?calls=1&n=50")
    for name in export.SETS:
        assert np.abs(golden[f"{name}_v"]).max() > 1
        assert look_error(page, name) < MOST
        assert walk_errors(page, name).max() < MOST
        points = golden[f"{name}_points"].tolist()
        found = page.evaluate(
            """async ([url, name, points]) => {
                const { SETS } = await import(url + "diffusion.js");
                return points.map(([x, y]) => SETS[name].classOf(x, y));
            }""",
            [scripts_url(page), name, points],
        )
        assert found == golden[f"{name}_classes"].tolist()
    for number, (old, new) in enumerate(LOOK_FAULTS):
        key = plant_again(page, "runtime.js", old, new, number)
        assert look_error(page, "moons", key) > 10 * MOST, old
    for number, (old, new) in enumerate(WALK_FAULTS):
        key = plant_again(page, "samplers.js", old, new, number)
        error = walk_errors(page, "moons", key, (0, 3, 4)).max()
        assert error > 10 * MOST, old
    assert state(figure)["set"] == "ring"


def test_points_travel_by_keyboard(demo, page):
    figure = demo("diffusion", "?calls=20&n=50")
    scrubber = field(figure, "Step")
    end = shown(figure)
    assert end["k"] == 20 and end["near"] > 0.9 and end["covered"] == 8
    scrubber.press("Home")
    start = shown(figure)
    assert start["k"] == 0 and start["near"] < 0.5
    scrubber.press("ArrowRight")
    assert state(figure)["at"] == 1
    assert "after step 1 of 20" in label_of(figure)
    press(figure, "To the data")
    assert state(figure)["at"] is None and scrubber.input_value() == "20"
    # DDIM draws nothing: where points end depends on the start alone.
    ends = "f => Array.from(f.playground.walk.states.at(-1)).map(v => v.toFixed(9))"
    field(figure, "Sampler").select_option("ddim")
    state(figure)
    once = figure.evaluate(ends)
    press(figure, "Seed of the noise", "ArrowRight")
    state(figure)
    assert figure.evaluate(ends) != once
    press(figure, "Seed of the noise", "ArrowLeft")
    state(figure)
    assert figure.evaluate(ends) == once
    # The place between noise and data stays where another number of calls is chosen.
    press(figure, "Step", "ArrowLeft", 10)
    press(figure, "Calls of the network", "ArrowRight", 4)
    assert (state(figure)["at"], state(figure)["calls"]) == (12, 24)
    # Heun looks twice in each step, once in the last.
    field(figure, "Sampler").select_option("heun")
    assert state(figure)["at"] == 6
    assert "12 steps, 23 calls" in figure.inner_text()
    # Other data, a class, guidance.
    field(figure, "Sampler").select_option("ddim")
    field(figure, "Data").select_option("checkerboard")
    assert field(figure, "Guidance w").is_disabled()
    field(figure, "Class to ask for").select_option("2")
    press(figure, "To the data")
    assert shown(figure)["obeyed"] > 0.95 and shown(figure)["covered"] == 2
    press(figure, "Guidance w", "Home")
    assert 0.1 < shown(figure)["obeyed"] < 0.4
    press(figure, "Guidance w", "End")
    assert shown(figure)["obeyed"] == 1 and shown(figure)["near"] < 0.2
    assert "each with and without the class" in figure.inner_text()
    figure.get_by_text("lower left, w = 6").wait_for()
    assert 2 <= figure.locator(".playground-runs tr").count() <= 6
    field(figure, "Class to ask for").select_option("-1")
    press(figure, "Guidance w", "Home")
    press(figure, "Guidance w", "ArrowRight", 2)
    assert shown(figure)["obeyed"] > 0.9 and shown(figure)["covered"] == 8
    field(figure, "Lines").select_option("guesses")
    assert not checks.violations(page)


def label_of(figure) -> str:
    return figure.locator("canvas[role=img]").get_attribute("aria-label")


def test_film_tour_and_link_of_diffusion(demo, page):
    figure = demo("diffusion", "?sampler=ddim&calls=8&n=50")
    press(figure, "To the noise")
    press(figure, "Play")
    page.wait_for_function(
        "f => f.playground.state.at === null && !f.playground.timer",
        arg=figure.element_handle(),
    )
    seen = []
    press(figure, "Take the tour")
    for step in range(5):
        guide = figure.locator(".playground-guide").inner_text()
        assert guide.startswith(f"Step {step + 1} of 5")
        seen.append(state(figure))
        press(figure, "Next step" if step < 4 else "Finish")
    assert [s["set"] for s in seen] == ["ring"] * 3 + ["checkerboard", "moons"]
    assert [s["sampler"] for s in seen] == ["ancestral"] * 2 + ["ddim"] * 3
    assert seen[1]["lines"] == "guesses" and seen[4]["guidance"] == 3
    tour = figure.get_by_role("button", name="Take the tour")
    assert tour.evaluate("e => e === document.activeElement")
    press(figure, "To the noise")
    press(figure, "Step", "ArrowRight", 3)
    kept = state(figure)
    link = figure.get_by_role("link", name="Link to this state").get_attribute("href")
    query = parse_qs(urlsplit(link).query)
    assert query["class"] == ["0"] and query["step"] == ["3"] and "seed" not in query
    press(figure, "Copy the link")
    assert page.url == link
    again = demo("diffusion", "?" + urlsplit(link).query)
    assert state(again) == kept
    broken = (
        "?data=x&sampler=toString&calls=1e9&class=7.6&w=-2&seed=&n=1&step=-4&lines=1"
    )
    mended = state(demo("diffusion", broken))
    assert mended["set"] == "ring" and mended["sampler"] == "ancestral"
    assert (mended["calls"], mended["label"], mended["guidance"]) == (100, 7, 0)
    assert mended["points"] == 50
    assert (mended["seed"], mended["at"], mended["lines"]) == (1, 0, "some")


def test_data_that_cannot_be_had_leave_the_picture(browser, site_url, demo):
    page = browser.new_page()
    page.route("**/diffusion-moons.*", lambda route: route.abort())
    figure = demo("diffusion", "?calls=5&n=50", page)
    field(figure, "Data").select_option("moons")
    figure.get_by_role("status").filter(has_text="is as before").wait_for()
    assert state(figure)["set"] == "ring"
    assert field(figure, "Data").input_value() == "ring"
    page.close()


# The field of scores

SCORE_FAULTS = (
    ("u / this.variance", "u"),
    ("share * (SPOTS[k][1] - y)", "SPOTS[k][1] - y"),
    ("(2 * this.variance)", "this.variance"),
)
STEP_FAULTS = (
    ("Math.sqrt(2 * size)", "Math.sqrt(size)"),
    ("points[i + 1] += size * v", "points[i + 1] -= size * v"),
)


def test_scores_are_slopes_and_faults_are_found(demo, page):
    figure = demo("scores")
    url = scripts_url(page)
    rng = np.random.default_rng(0)
    places = np.column_stack([rng.uniform(-3, 3, (60, 2)), rng.choice([0.3, 1, 2], 60)])
    found = page.evaluate(SCORE, [url, "", places.tolist()])
    assert found["worst"] < 1e-5
    exact = [export.ring_scores(p[None, :2], p[2])[0] for p in places]
    assert np.abs(np.array(found["found"]) - exact).max() < 1e-9
    assert page.evaluate(WIDTH, [url, ""]) == pytest.approx(0.0105, abs=0.0015)
    for number, (old, new) in enumerate(SCORE_FAULTS):
        key = plant_again(page, "langevin.js", old, new, number)
        assert page.evaluate(SCORE, [url, key, places.tolist()])["worst"] > 1e-2, old
    for number, (old, new) in enumerate(STEP_FAULTS, start=10):
        key = plant_again(page, "langevin.js", old, new, number)
        assert abs(page.evaluate(WIDTH, [url, key]) - 0.0105) > 0.003, old
    # By mouse: a click drops 20 particles at the place, and the cross goes there.
    canvas = figure.locator("canvas[role=img]")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] / 4, "y": box["height"] / 2})
    assert shown(figure)["n"] == 20
    assert state(figure)["x"] == pytest.approx(-1.6, abs=0.02)
    points = figure.evaluate("f => Array.from(f.playground.points)")
    assert np.mean(points[::2]) == pytest.approx(-1.6, abs=0.15)
    press(figure, "Follow the arrows")
    page.wait_for_function("f => f.playground.steps > 20", arg=figure.element_handle())
    press(figure, "Pause")
    steps = figure.evaluate("f => f.playground.steps")
    page.wait_for_timeout(100)
    assert figure.evaluate("f => f.playground.steps") == steps


def test_annealing_frees_what_is_stuck_with_less_motion(browser, demo):
    page = browser.new_page(reduced_motion="reduce")
    figure = demo("scores", page=page)
    press(figure, "Drop 200 at the cross")
    press(figure, "500 steps")
    assert shown(figure)["counts"] == [0, 0, 0, 200, 0, 0, 0, 0]
    field(figure, "Weights of the spots").select_option("unequal")
    press(figure, "Anneal")
    counts = np.array(shown(figure)["counts"]) / 200
    assert counts.sum() > 0.98 and state(figure)["sigma"] == 0
    assert counts[[0, 1, 7]].sum() == pytest.approx(21 / 26, abs=0.12)
    # Without annealing the weights are not seen.
    press(figure, "Remove all")
    assert shown(figure)["n"] == 0
    press(figure, "Drop 200 everywhere")
    press(figure, "500 steps")
    counts = np.array(shown(figure)["counts"]) / 200
    assert counts[[0, 1, 7]].sum() == pytest.approx(3 / 8, abs=0.12)
    # Steps beyond the limit throw the particles out.
    field(figure, "Step size η").press("End")
    assert "fly off" in figure.inner_text()
    press(figure, "10 steps")
    assert shown(figure)["away"] > 150
    # The link, the cross by keyboard, the tour.
    press(figure, "Cross: left and right", "ArrowRight", 3)
    press(figure, "Noise level σ", "ArrowRight", 2)
    kept = state(figure)
    assert kept["sigma"] == pytest.approx(0.1) and kept["drop"] == "everywhere"
    link = figure.get_by_role("link", name="Link to this state").get_attribute("href")
    figure = demo("scores", "?" + urlsplit(link).query, page)
    assert state(figure) == kept and shown(figure)["n"] == 200
    press(figure, "Take the tour")
    seen = []
    for step in range(5):
        assert (
            figure.locator(".playground-guide")
            .inner_text()
            .startswith(f"Step {step + 1} of 5")
        )
        seen.append((state(figure)["sigma"], shown(figure)["counts"]))
        press(figure, "Next step" if step < 4 else "Finish")
    assert seen[1][0] == 1 and sum(c > 0 for c in seen[2][1]) == 1
    assert all(c > 0 for c in seen[3][1]) and sum(seen[4][1]) < 150
    broken = "?sigma=9&eta=-1&weights=toString&x=40&y=&seed=1000&drop=many"
    mended = state(demo("scores", broken, page))
    assert (mended["sigma"], mended["eta"], mended["x"]) == (3, 1e-4, 3)
    assert (mended["weights"], mended["y"], mended["seed"]) == ("equal", 2.4, 99)
    page.close()


# For everyone


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", PAGES)
def test_accessible_while_it_is_used(browser, demo, kind, scheme):
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    query = {"diffusion": "?calls=10&n=50&step=4&class=1&w=2", "scores": "?drop=there"}
    figure = demo(kind, query[kind], page)
    assert figure.get_by_role("button", name="Play", exact=True).count() == 0
    press(figure, {"diffusion": "A tenth on", "scores": "100 steps"}[kind])
    press(figure, "Take the tour")
    state(figure)
    assert not checks.violations(page)
    figure.locator("button").first.focus()
    assert not checks.hidden_focus(page, 25)
    page.set_viewport_size({"width": 320, "height": 700})
    assert not checks.overflow(page)
    assert figure.locator(".playground-panel").bounding_box()["width"] <= 320
    context.close()


@pytest.mark.parametrize("kind", PAGES)
def test_without_javascript_a_still_and_its_text_stand_there(browser, site_url, kind):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site_url + PAGES[kind])
    image = page.locator(".playground img").first
    assert len(image.get_attribute("alt")) > 80
    assert image.bounding_box()["width"] > 200
    assert "needs JavaScript" in page.content()
    context.close()


def test_fault_in_the_link_is_found(demo, page):
    served = plant(page, "diffusion.js", 'calls: "calls"', 'calls: "call"')
    assert state(demo("diffusion", "?calls=7&n=50"))["calls"] != 7
    assert served
