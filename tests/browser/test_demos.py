"""Live demos by keyboard and by mouse, their pixels against Keras, planted faults.

The goldens come from `make demos`.  A fault is planted by changing one line of a module
on its way to the browser; the comparison that passes without it must then fail.
"""

from __future__ import annotations

import base64
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

GOLDENS = Path(__file__).parents[1] / "goldens"
PAGES = {k: f"book/demo-{k}.html" for k in ("latent", "generator", "gan-lab")}
FILM = "book/index.html"
LEVELS = 1  # of 256 grey levels
SIZE = 28


@pytest.fixture
def demo(page, site_url):
    """Open the page of a demo and wait until it runs."""

    def open_demo(kind: str):
        page.goto(site_url + PAGES[kind])
        figure = page.locator(".playground")
        figure.scroll_into_view_if_needed()
        page.locator('.playground[data-state="running"]').wait_for()
        return figure

    return open_demo


def plant(page, module: str, old: str, new: str) -> list[str]:
    """Serve a module with ``old`` replaced by ``new``; the list is what was asked."""
    served = []

    def handle(route):
        text = route.fetch().text()
        assert text.count(old) == 1, f"{module} no longer holds {old!r}"
        served.append(module)
        route.fulfill(body=text.replace(old, new), content_type="text/javascript")

    page.route(re.compile(rf"/{re.escape(module)}(\?|$)"), handle)
    return served


# As text: a list of a million numbers takes seconds on its way from the browser.
RED = """canvas => {
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    let red = "";
    for (let i = 0; i < data.length; i += 4) red += String.fromCharCode(data[i]);
    return [width, btoa(red)];
}"""


def pixels(canvas) -> np.ndarray:
    """The grey levels that stand on a canvas, shape (height, width)."""
    width, red = canvas.evaluate(RED)
    return np.frombuffer(base64.b64decode(red), "uint8").reshape(-1, width)


def as_text(blob: bytes) -> str:
    """Bytes for a script, which reads them with ``atob``."""
    return base64.b64encode(blob).decode()


def sheet(canvas, columns: int, count: int) -> np.ndarray:
    """The pictures on a sheet with gaps of two pixels, (count, 28, 28)."""
    page, step = pixels(canvas), SIZE + 2
    corners = [(k // columns * step, k % columns * step) for k in range(count)]
    return np.stack([page[y : y + SIZE, x : x + SIZE] for y, x in corners])


def numbers(path: Path) -> dict[str, np.ndarray]:
    """What Keras has computed; the file is closed again."""
    with np.load(path) as file:
        return dict(file)


def distance(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference in grey levels."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def press(slider, target: float, step: float) -> None:
    """Move a focused range from its value to ``target`` with the arrow keys."""
    now = float(slider.input_value())
    presses = round((target - now) / step)
    slider.focus()
    for _ in range(abs(presses)):
        slider.page.keyboard.press("ArrowRight" if presses > 0 else "ArrowLeft")
    assert float(slider.input_value()) == pytest.approx(target)


def latent_error(figure) -> int:
    """Drive the explorer by keyboard to each golden point; the largest difference."""
    golden = numbers(GOLDENS / "decoder.npz")
    sliders = figure.locator("input[type=range]")
    canvas = figure.get_by_role("img", name="What the decoder draws")
    worst = 0
    for z, expected in zip(golden["z"], golden["pixels"], strict=True):
        for axis in (0, 1):
            press(sliders.nth(axis), float(z[axis]), 0.05)
        worst = max(worst, distance(pixels(canvas), expected))
    return worst


def generator_error(figure) -> int:
    """Compare the first sheet and the first walk with Keras."""
    golden = numbers(GOLDENS / "generator.npz")
    first = sheet(figure.get_by_role("img", name="24 samples"), 6, 24)
    walk = sheet(figure.get_by_role("img", name="Eleven pictures"), 11, 11)
    return max(distance(first, golden["seed_1"]), distance(walk, golden["walk"]))


def test_goldens_differ_from_each_other():
    golden = numbers(GOLDENS / "decoder.npz")["pixels"]
    assert min(distance(a, b) for a, b in itertools.pairwise(golden)) > 50


# Latent explorer


def test_latent_pixels_by_keyboard(demo):
    assert latent_error(demo("latent")) <= LEVELS


def test_latent_pixels_by_mouse(demo, page):
    golden = numbers(GOLDENS / "decoder.npz")
    figure = demo("latent")
    pad, canvas = figure.locator(".playground-pad"), figure.locator("canvas").nth(1)
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for z, expected in zip(golden["z"], golden["pixels"], strict=True):
        u, v = float(z[0] / 3 + 1) / 2, float(1 - z[1] / 3) / 2
        page.mouse.move(box["x"] + u * box["width"], box["y"] + v * box["height"])
        assert distance(pixels(canvas), expected) <= LEVELS
        value = float(figure.locator("input[type=range]").first.input_value())
        assert value == pytest.approx(z[0], abs=1e-6)
    page.mouse.up()
    page.mouse.move(box["x"] + 5, box["y"] + 5)  # not pressed: nothing moves
    assert distance(pixels(canvas), golden["pixels"][-1]) <= LEVELS


def test_latent_tells_in_words_where_the_point_is(demo):
    figure = demo("latent")
    press(figure.get_by_label("z₁ (left and right)"), 1.0, 0.05)
    press(figure.get_by_label("z₂ (up and down)"), -1.0, 0.05)
    name = "What the decoder draws at z = (1.00, −1.00)"
    assert figure.get_by_role("img", name=name).count() == 1
    assert figure.get_by_text("63 % of the prior lies nearer").count() == 1
    figure.get_by_role("status").filter(has_text="z = (1.00, −1.00)").wait_for()
    figure.get_by_role("button", name="Back to the centre").press("Enter")
    assert figure.get_by_text("0 % of the prior lies nearer").count() == 1


# Generator


def test_generator_pixels(demo):
    assert generator_error(demo("generator")) <= LEVELS


def test_generator_by_keyboard(demo):
    golden = numbers(GOLDENS / "generator.npz")
    figure = demo("generator")
    digit = figure.get_by_role("img", name="The picture at t")
    slider = figure.get_by_label("Place t on the way from A to B")
    for k, t in ((10, 1.0), (4, 0.4), (0, 0.0)):
        press(slider, t, 0.1)
        assert distance(pixels(digit), golden["walk"][k]) <= LEVELS
    for name, expected in (("Shuffle the noise", "seed_2"), ("Noise before", "seed_1")):
        figure.get_by_role("button", name=name).press("Space")
        shown = sheet(figure.get_by_role("img", name="24 samples"), 6, 24)
        assert distance(shown, golden[expected]) <= LEVELS
    figure.get_by_label("From sample A").select_option("3")
    assert distance(pixels(digit), golden["seed_1"][3]) <= LEVELS


def test_generator_by_mouse(demo):
    golden = numbers(GOLDENS / "generator.npz")
    figure = demo("generator")
    canvas = figure.get_by_role("img", name="24 samples")
    box = canvas.bounding_box()
    for k in (8, 21):
        place = ((k % 6 + 0.5) / 6 * box["width"], (k // 6 + 0.5) / 4 * box["height"])
        canvas.click(position={"x": place[0], "y": place[1]})
    assert figure.get_by_label("From sample A").input_value() == "8"
    assert figure.get_by_label("to sample B").input_value() == "21"
    walk = sheet(figure.get_by_role("img", name="Eleven pictures"), 11, 11)
    assert distance(walk[0], golden["seed_1"][8]) <= LEVELS
    assert distance(walk[-1], golden["seed_1"][21]) <= LEVELS


# Planted faults

FAULTS = {
    "padding": ("runtime.js", "Math.max(k - stride[axis], 0) / 2", "0 / 2"),
    "slope": ("runtime.js", "v < 0 ? slope * v : v", "v < 0 ? 0.2 * v : v"),
    "bias of a convolution": ("runtime.js", "y.set(bias, at)", "y.fill(0, at)"),
    "fp16 exponent": ("runtime.js", "(exponent - 15)", "(exponent - 16)"),
    "fp16 fraction": ("runtime.js", "(h & 1023) / 1024", "(h & 896) / 1024"),
    "fp16 sign": ("runtime.js", "h & 0x8000 ? -1 : 1", "1"),
    "arc": ("generator.js", "Math.sin((1 - t) * omega) * x", "(1 - t) * x"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_the_generator_is_found(demo, page, fault):
    served = plant(page, *FAULTS[fault])
    assert generator_error(demo("generator")) > LEVELS
    assert served


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("runtime.js", "new Float32Array(bias);", "new Float32Array(bias.length);"),
        ("runtime.js", "v < 0 ? slope * v : v", "v < 0 ? 0.2 * v : v"),
        ("latent.js", "point[axis] = v;\n        draw();", "point[axis] = v;"),
    ],
    ids=["bias", "slope", "no redraw"],
)
def test_fault_in_the_explorer_is_found(demo, page, module, old, new):
    served = plant(page, module, old, new)
    assert latent_error(demo("latent")) > LEVELS
    assert served


# Every kind of layer, with weights drawn at random


RUN = """async ([url, bytes, z]) => {
    const { Model } = await import(url);
    const blob = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
    const model = new Model(blob.buffer);
    return Array.from(model.run(Float32Array.from(z)));
}"""


def module_url(page, name: str) -> str:
    main = page.locator('script[src*="/playground."]').get_attribute("src")
    return (
        page.evaluate("u => new URL(u, location).href", main).split("main.js")[0] + name
    )


def test_runtime_equals_keras_on_every_layer(demo, page):
    from tests.test_playground import every_layer, random_weights
    from tools.export_models import model_bytes

    demo("latent")
    url = module_url(page, "runtime.js")
    for seed in range(3):
        model = random_weights(every_layer(), seed)
        z = np.random.default_rng(seed).standard_normal((1, 5)).astype("float32")
        expected = model.predict(z, verbose=0).ravel()
        blob = as_text(model_bytes(model))
        found = page.evaluate(RUN, [url, blob, z[0].tolist()])
        assert np.abs(found - expected).max() < 5e-3
        assert expected.std() > 0.01


# GAN laboratory

GRADIENTS = """async (url) => {
    const { Game } = await import(url + "gan.js");
    const { TOYS, draw } = await import(url + "toys.js");
    let worst = 0;
    for (const loss of ["non_saturating", "minimax"]) for (const r1 of [0, 0.7]) {
        const game = new Game(TOYS.ring, { hidden: 7, loss, r1, seed: 3 });
        const real = draw(TOYS.ring, 9, game.random, game.normal);
        const z = game.noise(9);
        const fake = game.generator.forward(z, 9).slice();
        const penalty = () => r1 && game.discriminator.penalise(real, 9, r1);
        const dLoss = () => penalty() + game.addDiscriminatorGradient(real, fake);
        const gLoss = () => game.addGeneratorGradient(z);
        for (const [player, loss] of [["discriminator", dLoss], ["generator", gLoss]]) {
            const net = game[player];
            // No bias may be zero: a unit must not sit exactly on its corner.
            net.layers.forEach(({ b }) => b.value.forEach((_, i) => {
                b.value[i] = 0.1 * game.normal(); }));
            const clear = () => net.parameters().forEach((p) => p.grad.fill(0));
            clear();
            if (player === "discriminator") game.addDiscriminatorGradient(real, fake);
            else gLoss();
            const kept = net.parameters().map((p) => p.grad.slice());
            net.parameters().forEach((p, k) => p.value.forEach((w, i) => {
                const h = 1e-6, at = (v) => { p.value[i] = v; return loss(); };
                const slope = (at(w + h) - at(w - h)) / (2 * h);
                p.value[i] = w;
                worst = Math.max(worst, Math.abs(slope - kept[k][i]));
            }));
        }
    }
    return worst;
}"""


def gradient_error(page) -> float:
    return page.evaluate(GRADIENTS, module_url(page, ""))


def test_lab_gradients_equal_finite_differences(demo, page):
    demo("gan-lab")
    assert gradient_error(page) < 1e-6


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("mlp.js", "if (this.values[l][i] === 0) grad[i] = 0", ""),
        ("mlp.js", "b.grad[o] += grad[from + o]", "b.grad[o] += 0"),
        ("mlp.js", "(d * weight) / n", "d / n"),
        ("gan.js", "slope: (a) => sigmoid(a) - 1", "slope: (a) => -sigmoid(a)"),
    ],
    ids=["mask", "bias", "penalty", "loss"],
)
def test_fault_in_the_gradients_is_found(demo, page, module, old, new):
    served = plant(page, module, old, new)
    demo("gan-lab")
    assert gradient_error(page) > 1e-4
    assert served


def number(figure, name: str) -> float:
    """A number of the table beside the picture."""
    row = figure.get_by_role("row").filter(has_text=name)
    return float(row.get_by_role("cell").inner_text().split()[0])


def play(figure, rounds: int) -> None:
    figure.evaluate("(f, n) => f.playground.run(n)", rounds)


def test_lab_steps_by_keyboard_and_repeats(demo):
    figure = demo("gan-lab")
    plane = figure.get_by_role("img", name="Plane with real points")
    step = figure.get_by_role("button", name="Step", exact=True)
    runs = []
    for _ in range(2):
        figure.get_by_role("button", name="Reset", exact=True).press("Enter")
        start = pixels(plane)
        for _ in range(5):
            step.press("Space")
        runs.append(pixels(plane))
        assert number(figure, "rounds played") == 5
        assert distance(runs[-1], start) > 20
    assert distance(*runs) == 0
    figure.get_by_label("Seed").select_option("2")
    play(figure, 5)
    assert distance(pixels(plane), runs[0]) > 20


def test_lab_runs_and_pauses_by_mouse(demo, page):
    figure = demo("gan-lab")
    for name in ("Slow", "Fast"):
        figure.get_by_role("button", name="Reset", exact=True).click()
        figure.get_by_role("button", name=name).click()
        page.wait_for_timeout(1000)
        figure.get_by_role("button", name="Pause").click()
        played = number(figure, "rounds played")
        assert played > 5
        page.wait_for_timeout(200)
        assert number(figure, "rounds played") == played
    figure.get_by_role("status").filter(has_text=f"Round {played:.0f}").wait_for()


def test_lab_draws_a_distribution_with_the_mouse(demo, page):
    figure = demo("gan-lab")
    figure.get_by_role("combobox", name="Real points").select_option("drawn")
    box = figure.locator(".playground-plane").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 30, steps=20)
    page.mouse.up()
    shape = figure.evaluate(
        """f => { const { game } = f.playground; const n = game.real.length;
           const y = game.real.filter((_, i) => i % 2);
           return { n, low: Math.min(...y), spots: game.toy.spots.length }; }"""
    )
    assert shape["low"] > 1.5 and shape["spots"] > 2 and shape["n"] == 2000
    play(figure, 3)
    assert number(figure, "rounds played") == 3


@pytest.mark.parametrize("name", ["ring", "grid", "moons", "spiral", "checkerboard"])
def test_lab_real_points_cover_their_own_spots(demo, page, name):
    demo("gan-lab")
    found = page.evaluate(
        """async ([url, name]) => {
            const { TOYS, coverage, draw } = await import(url + "toys.js");
            const { gaussian, uniform } = await import(url + "noise.js");
            const u = uniform(1);
            return coverage(TOYS[name], draw(TOYS[name], 1000, u, gaussian(u)));
        }""",
        [module_url(page, ""), name],
    )
    assert found["covered"] == found["spots"] and found["near"] > 0.75


def test_lab_provokes_and_cures_mode_collapse(demo):
    figure = demo("gan-lab")
    figure.get_by_role("button", name="Provoke mode collapse").press("Enter")
    assert figure.get_by_label("Generator’s steps a round").input_value() == "10"
    play(figure, 150)
    assert number(figure, "spots covered") <= 3
    figure.get_by_role("button", name="Cure (no reset)").press("Enter")
    play(figure, 600)
    assert number(figure, "rounds played") == 750
    assert number(figure, "spots covered") >= 6


def test_lab_provokes_and_cures_a_dominant_discriminator(demo):
    figure = demo("gan-lab")
    figure.get_by_role("button", name="Provoke a dominant discriminator").click()
    play(figure, 150)
    assert number(figure, "discriminator’s loss") < 0.1
    assert number(figure, "norm of the generator’s gradient") < 0.05
    assert number(figure, "spots covered") == 0
    figure.get_by_role("button", name="Cure (no reset)").click()
    play(figure, 600)
    assert number(figure, "discriminator’s loss") > 0.8
    assert number(figure, "spots covered") >= 6


# The film of a training, on the home page

POSITION = "e => parseFloat(getComputedStyle(e).objectPosition.split(' ')[1])"


def film(page, site_url):
    """Open the home page and wait until the film's controls stand there."""
    page.goto(site_url + FILM)
    figure = page.locator('.playground[data-kind="film"][data-state="running"]')
    figure.wait_for()
    return figure


def test_film_plays_once_and_ends_at_the_last_frame(page, site_url):
    figure = film(page, site_url)
    frame, control = figure.locator("img"), figure.get_by_label("Steps of training")
    last = control.get_attribute("max")
    page.wait_for_function(
        "([c, last]) => c.value === last", arg=[control.element_handle(), last]
    )
    assert frame.evaluate(POSITION) == 100
    whole = frame.evaluate("e => [e.naturalWidth, e.naturalHeight]")
    assert whole[1] / whole[0] == pytest.approx(
        0.4 * (int(last) + 1)
    )  # 4 by 10 a frame
    page.wait_for_timeout(800)
    assert control.input_value() == last  # it does not begin again
    figure.get_by_role("button", name="Play again").click()
    page.wait_for_timeout(500)
    figure.get_by_role("button", name="Stop").click()
    stopped = control.input_value()
    assert int(stopped) < int(last)
    page.wait_for_timeout(800)
    assert control.input_value() == stopped


def test_film_by_keyboard_and_in_words(page, site_url):
    page.emulate_media(reduced_motion="reduce")
    figure = film(page, site_url)
    frame, control = figure.locator("img"), figure.get_by_label("Steps of training")
    assert control.input_value() == control.get_attribute("max")  # it does not move
    assert figure.get_by_role("button").count() == 0
    words = frame.get_attribute("alt")
    control.focus()
    control.press("Home")
    assert frame.evaluate(POSITION) == 0
    assert control.get_attribute("aria-valuetext") == "0"
    assert frame.get_attribute("alt") == "What the network draws after 0 steps."
    control.press("End")
    assert frame.evaluate(POSITION) == 100 and frame.get_attribute("alt") == words


def test_film_without_javascript_is_its_last_frame(browser, site_url):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site_url + FILM)
    frame = page.locator('.playground[data-kind="film"] img')
    assert frame.evaluate(POSITION) == 100
    box = frame.bounding_box()
    assert box["height"] / box["width"] == pytest.approx(0.4, abs=0.02)
    context.close()


# All of them


def test_less_motion_means_steps_by_button(browser, site_url):
    page = browser.new_page(reduced_motion="reduce")
    page.goto(site_url + PAGES["gan-lab"])
    figure = page.locator('.playground[data-state="running"]')
    figure.wait_for()
    assert figure.get_by_role("button", name="Slow").count() == 0
    figure.get_by_role("button", name="10 rounds").press("Enter")
    assert number(figure, "rounds played") == 10
    page.close()


@pytest.mark.parametrize("kind", PAGES)
def test_without_javascript_a_still_and_its_text_stand_there(browser, site_url, kind):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site_url + PAGES[kind])
    image = page.locator(".playground img")
    assert image.get_attribute("alt") and image.bounding_box()["width"] > 200
    assert "needs JavaScript" in page.content()
    context.close()


@pytest.mark.parametrize("kind", PAGES)
def test_narrow_page_does_not_scroll_sideways(demo, page, kind):
    page.set_viewport_size({"width": 320, "height": 700})
    demo(kind)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.locator(".playground-panel").bounding_box()["width"] <= 320


def test_a_model_that_is_missing_leaves_the_still(browser, site_url):
    page = browser.new_page()
    page.route("**/*.bin", lambda route: route.fulfill(status=404))
    page.goto(site_url + PAGES["latent"])
    figure = page.locator('.playground[data-state="failed"]')
    figure.wait_for()
    assert figure.locator("img").is_visible()
    assert "still picture stays" in figure.get_by_role("alert").inner_text()
    page.close()


@pytest.mark.parametrize("kind", PAGES)
def test_page_says_how_long_the_training_took(page, site_url, kind):
    import json

    log = Path(__file__).parents[2] / "assets" / "models" / "training.json"
    name = {"latent": "decoder"}.get(kind, kind)
    facts = json.loads(log.read_text("utf-8"))[name]
    page.goto(site_url + PAGES[kind])
    text = page.locator("article").inner_text()
    assert f"{facts['epochs']} passes through {facts['samples']:,} samples" in text
    assert re.search(r"\d+ (seconds?|minutes) on two processor cores", text)


def test_pages_without_a_demo_load_nothing_of_it(page, site_url):
    asked = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(site_url + "book/notation.html")
    page.wait_for_load_state("networkidle")
    assert asked and not any("/demos/" in url for url in asked)
