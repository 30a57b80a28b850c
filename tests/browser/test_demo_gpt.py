"""The small GPT in the page: its numbers against Keras, by keyboard and by mouse.

The goldens come from ``python -m tools.export_models gpt``.  Faults are planted as in
``test_demos.py``: one line of a module is changed on its way to the browser.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from browser import page_checks as checks
from browser.test_demos import as_text, module_url, numbers, plant

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "goldens" / "gpt.npz"
MODEL = ROOT / "assets" / "models" / "gpt.bin"
PAGE = "book/demo-gpt.html"
MOST = 1e-3  # that a logit may differ from Keras'

READ = """async ([url, bytes, prompts, whole]) => {
    const { LanguageModel } = await import(url + "runtime.js");
    const blob = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
    const model = new LanguageModel(blob.buffer);
    return JSON.stringify(prompts.map((prompt) => {
        const ids = [...prompt].map((c) => model.alphabet.indexOf(c));
        model.forget();
        if (!whole) ids.forEach((_, t) => model.read(ids.slice(0, t + 1)));
        const { logits, maps } = model.read(ids);
        return {
            logits: logits.map((row) => Array.from(row)),
            maps: maps.map((heads) => heads.map((rows) => rows.map((row) =>
                [...row, ...Array(ids.length - row.length).fill(0)]))),
        };
    }));
}"""
SETTLE = """async ([url, logits, settings]) => {
    const { settle } = await import(url + "decoding.js");
    return settings.map(([temperature, topK, topP]) => Array.from(
        settle(Float32Array.from(logits), { temperature, topK, topP })));
}"""


@pytest.fixture
def gpt(page, site_url):
    """Open the demo, with a query if one is given, and wait until it runs."""

    def open_demo(query: str = ""):
        page.goto(site_url + PAGE + query)
        page.locator(".playground").scroll_into_view_if_needed()
        figure = page.locator('.playground[data-kind="gpt"][data-state="running"]')
        figure.wait_for()
        return figure

    return open_demo


def state(figure) -> dict:
    return figure.evaluate("f => ({...f.playground.state})")


def text(figure) -> str:
    return state(figure)["text"]


def press(figure, name: str, key: str = "Enter", times: int = 1) -> None:
    button = figure.get_by_role("button", name=name, exact=True)
    for _ in range(times):
        button.press(key)


def logits_error(page, whole: bool = True) -> float:
    """The largest difference from Keras, of logits and of attention weights."""
    golden = numbers(GOLDEN)
    prompts, blob = golden["prompts"].tolist(), as_text(MODEL.read_bytes())
    found = page.evaluate(READ, [module_url(page, ""), blob, prompts, whole])
    worst = 0.0
    for k, read in enumerate(json.loads(found)):
        for name in ("logits", "maps"):
            difference = np.array(read[name]) - golden[f"{name}_{k}"]
            worst = max(worst, np.abs(difference).max())
    return worst


def choice_error(page) -> float:
    """The largest difference of probabilities after temperature, top-k and top-p."""
    golden = numbers(GOLDEN)
    logits, settings = golden["logits_0"][-1], golden["settings"]
    url = module_url(page, "")
    found = page.evaluate(SETTLE, [url, logits.tolist(), settings.tolist()])
    return float(np.abs(np.array(found) - golden["settled"]).max())


def test_goldens_are_not_trivial():
    golden = numbers(GOLDEN)
    assert golden["logits_1"].std() > 1 and golden["maps_1"].max() > 0.5
    kept = (golden["settled"] > 0).sum(axis=1)
    assert kept[0] == kept[1] == 62 and kept[2] == 5 and 1 <= kept[3] < 20


@pytest.mark.parametrize("whole", [True, False], ids=["at once", "letter by letter"])
def test_logits_and_maps_equal_keras(gpt, page, whole):
    gpt()
    assert logits_error(page, whole) < MOST


def test_probabilities_equal_the_package(gpt, page):
    gpt()
    assert choice_error(page) < 1e-5


FAULTS = {
    "norm": ("runtime.js", "variance + epsilon", "variance + 0.5"),
    "mean": ("runtime.js", "(v - mean) * size", "v * size"),
    "scale": ("runtime.js", "size * scale[i] + bias[i]", "size * scale[i]"),
    "residual": ("runtime.js", "map((v, i) => v + x[i])", "map((v) => v)"),
    "rotation": ("runtime.js", "-(i % size) / size", "-i / x.length"),
    "turn": ("runtime.js", "x[i + 1] = a * sin + b * cos", "x[i + 1] = b * cos"),
    "scores": ("runtime.js", "/ Math.sqrt(size)", "/ size"),
    "heads": ("runtime.js", "key, at, at + size)", "key, 0, size)"),
    "gelu": ("runtime.js", "erf(v / Math.SQRT2)", "erf(v)"),
    "bias": ("runtime.js", "Float32Array(bias);", "Float32Array(bias.length);"),
    "table": ("runtime.js", "id * outputs, (id + 1)", "0, (0 + 1)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_the_runtime_is_found(gpt, page, fault):
    served = plant(page, *FAULTS[fault])
    gpt()
    assert logits_error(page) > 10 * MOST
    assert served


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("slice(past)), run", "slice(past)), { ...run, past: 0 }"),
        ("this.tokens[past] === tokens[past]", "true"),
    ],
    ids=["places", "prefix"],
)
def test_fault_in_the_memory_is_found(gpt, page, old, new):
    served = plant(page, "runtime.js", old, new)
    gpt()
    error = page.evaluate(
        """async ([url, bytes]) => {
            const { LanguageModel } = await import(url + "runtime.js");
            const blob = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
            const model = () => new LanguageModel(blob.buffer);
            const [a, b] = [model(), model()];
            b.read([5, 6, 7]);
            const [x, y] = [a, b].map((m) => m.read([5, 9, 7, 8]).logits.at(-1));
            return Math.max(...x.map((v, i) => Math.abs(v - y[i])));
        }""",
        [module_url(page, ""), as_text(MODEL.read_bytes())],
    )
    assert error > 10 * MOST
    assert served


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v / temperature", "v"),
        ("order.slice(0, topK)", "order"),
        ("before >= topP", "before + p[id] >= topP"),
    ],
    ids=["temperature", "top-k", "top-p"],
)
def test_fault_in_the_choice_is_found(gpt, page, old, new):
    served = plant(page, "decoding.js", old, new)
    gpt()
    assert choice_error(page) > 1e-3
    assert served


# By keyboard


def test_it_writes_what_keras_writes_by_keyboard(gpt):
    golden = str(numbers(GOLDEN)["text"])  # it outgrows the context
    figure = gpt()
    start = text(figure)
    assert golden.startswith(start)
    press(figure, "Next letter", "Space", times=len(golden) - len(start))
    assert text(figure) == golden
    press(figure, "Take one back", times=3)
    assert text(figure) == golden[:-3]
    press(figure, "Next letter", times=3)
    assert text(figure) == golden
    press(figure, "Start anew")
    assert text(figure) == start


def test_a_prompt_is_typed_and_strange_letters_are_left_out(gpt, page):
    figure = gpt()
    box = figure.get_by_label("Prompt")
    box.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("Höre den König’s")
    assert text(figure) == "Hre den Knig's"
    assert "ö" in figure.get_by_text("Left out").inner_text()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    assert text(figure) == "\n"


def row(figure, k: int) -> list[str]:
    return figure.locator(".playground-guesses tr").nth(k + 1).inner_text().split("\t")


def test_table_says_what_keras_expects(gpt):
    golden = numbers(GOLDEN)
    alphabet = figure_alphabet(figure := gpt("?t=1"))
    p = golden["settled"][0]
    for k, i in enumerate(np.argsort(-p)[:8]):
        name, own, drawn, *_ = row(figure, k)
        assert name.strip() == alphabet[i].replace(" ", "␣").replace("\n", "↵")
        assert own == drawn
        assert float(own.split()[-2]) == pytest.approx(100 * p[i], abs=0.051)


def figure_alphabet(figure) -> str:
    return figure.evaluate("f => f.playground.model.alphabet")


def test_controls_change_what_is_drawn_with(gpt):
    figure = gpt()
    figure.get_by_label("Top-k").press("Home")
    assert state(figure)["topK"] == 1
    assert row(figure, 0)[2] == "100.0 %" and row(figure, 1)[2] == "cut"
    figure.get_by_label("Top-k").press("End")
    figure.get_by_label("Temperature").press("Home")
    assert row(figure, 0)[2] == "100.0 %" and row(figure, 1)[2] == "cut"
    figure.get_by_label("Temperature").press("End")
    hot = [float(row(figure, k)[2].split()[-2]) for k in range(2)]
    own = [float(row(figure, k)[1].split()[-2]) for k in range(2)]
    assert hot[0] < own[0] and hot[0] / hot[1] < own[0] / own[1]
    figure.get_by_label("Top-p").press("Home")
    assert row(figure, 0)[2] == "100.0 %"


def test_heads_by_keyboard_and_in_words(gpt):
    figure = gpt("?text=Speak%2C+speak.")
    head = figure.get_by_role("button", name="Block 2, head 3")
    head.press("Enter")
    assert head.get_attribute("aria-pressed") == "true"
    assert figure.locator('[aria-pressed="true"]').count() == 1
    name = figure.locator(".playground-attention").get_attribute("aria-label")
    assert "block 2, head 3, each row one of 13 letters" in name
    said = figure.get_by_text("looks most at")
    before = said.inner_text()
    figure.get_by_label("Look at letter").press("ArrowLeft")
    assert state(figure)["at"] == 11 and said.inner_text() != before
    figure.get_by_role("status").filter(has_text="There the model expects").wait_for()


def test_glance_is_the_largest_weight(gpt):
    figure = gpt("?text=Speak%2C+speak.&block=1&head=0")
    weights = figure.evaluate("f => Array.from(f.playground.read().maps[1][0].at(-1))")
    found = figure.get_by_text("looks most at").inner_text()
    assert f"{100 * max(weights):.1f} %" in found


# By mouse


def test_letter_and_row_are_chosen_with_the_mouse(gpt):
    figure = gpt("?text=Speak%2C+speak.")
    figure.locator('[data-place="4"]').click()
    assert state(figure)["at"] == 4
    assert "“k” (“,” came)" in figure.locator("caption").inner_text()
    canvas = figure.locator(".playground-attention")
    box = canvas.bounding_box()
    canvas.click(position={"x": 20, "y": box["height"] * 9.5 / 13})
    assert state(figure)["at"] == 9
    shade = figure.get_by_label("Shade the letters by")
    shade.select_option("attention")
    tinted = figure.locator('.playground-letter[style*="--weight"]')
    places = tinted.evaluate_all("all => all.map((e) => Number(e.dataset.place))")
    assert places and max(places) <= 9


def test_large_map_shows_the_letters_up_to_the_framed_one(gpt):
    figure = gpt("?text=" + "a+b+" * 12)
    canvas = figure.locator(".playground-attention")
    box = canvas.bounding_box()
    canvas.click(position={"x": 20, "y": 10})
    assert state(figure)["at"] == 48 - 24
    canvas.click(position={"x": 20, "y": box["height"] - 5})
    assert state(figure)["at"] == 48 - 24  # its last row is the framed one


def test_it_writes_and_pauses_by_mouse(gpt, page):
    figure = gpt()
    figure.get_by_role("button", name="Write", exact=True).click()
    page.wait_for_timeout(1500)
    figure.get_by_role("button", name="Pause").click()
    written = text(figure)
    assert len(written) > 15
    page.wait_for_timeout(500)
    assert text(figure) == written
    assert figure.locator(".playground-written").count() == len(written) - 15


def test_beyond_the_context_the_beginning_is_pale(gpt):
    figure = gpt("?text=" + "a+b+" * 20)
    assert figure.locator(".playground-gone").count() == 80 - 64
    assert figure.get_by_label("Look at letter").get_attribute("min") == "16"
    figure.locator('[data-place="3"]').click()  # not seen, so not chosen
    assert figure.locator(".playground-framed").get_attribute("data-place") == "16"


def test_a_text_ends_where_a_link_would_be_too_long(gpt):
    figure = gpt("?text=" + "a" * 398)
    press(figure, "Next letter", times=4)
    assert len(text(figure)) == 400
    figure.get_by_role("status").filter(has_text="The text is full").wait_for()


# The link


def test_link_restores_the_state(gpt, page):
    figure = gpt()
    press(figure, "Next letter", times=6)
    figure.get_by_label("Temperature").press("ArrowLeft")
    for _ in range(3):
        figure.get_by_label("Seed").press("ArrowRight")
    figure.get_by_label("Top-p").press("ArrowLeft")
    figure.get_by_role("button", name="Block 3, head 2").click()
    figure.get_by_label("Look at letter").press("Home")
    figure.get_by_label("Shade the letters by").select_option("attention")
    kept = state(figure)
    link = figure.get_by_role("link", name="Link to this state").get_attribute("href")
    assert parse_qs(urlsplit(link).query)["seed"] == ["4"]
    press(figure, "Copy the link")
    assert page.url == link
    again = gpt("?" + urlsplit(link).query)
    found = state(again)
    assert found == kept
    assert again.get_by_label("Prompt").input_value() == kept["text"][: kept["prompt"]]
    press(figure, "Next letter")
    first = text(figure)
    third = gpt("?" + urlsplit(link).query)
    press(third, "Next letter")
    assert text(third) == first  # the draws go on as they would have


def test_link_of_the_start_says_nothing(gpt, page):
    figure = gpt()
    link = figure.get_by_role("link", name="Link to this state").get_attribute("href")
    assert not urlsplit(link).query


def test_a_broken_link_is_mended(gpt):
    figure = gpt(
        "?text=%C3%BC&t=99&k=-3&p=x&block=7&head=1e9&at=500&n=77&shade=no&seed="
    )
    found = state(figure)
    assert found["text"] == "\n" and found["temperature"] == 2 and found["topK"] == 1
    assert found["topP"] == 1 and found["block"] == 2 and found["head"] == 3
    assert found["shade"] == "chance" and found["seed"] == 1 and found["prompt"] == 1
    press(figure, "Next letter")
    assert len(text(figure)) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('temperature: "t"', 'temperature: "tt"'),
        ("s.text.length), 1, s.text.length)", "s.text.length), s.text.length, 999)"),
    ],
    ids=["name", "prompt"],
)
def test_fault_in_the_link_is_found(gpt, page, old, new):
    served = plant(page, "gpt.js", old, new)
    found = state(gpt("?text=Speak&n=2&t=0.5"))
    assert (found["temperature"], found["prompt"]) != (0.5, 2)
    assert served


# The tour


def test_tour_of_five_steps_moves_the_controls(gpt, page):
    figure = gpt()
    seen = []
    press(figure, "Take the tour")
    for step in range(5):
        guide = figure.locator(".playground-guide").inner_text()
        assert guide.startswith(f"Step {step + 1} of 5")
        seen.append(state(figure))
        assert not checks.violations(page)
        press(figure, "Next step" if step < 4 else "Finish")
    assert [s["temperature"] for s in seen] == [0.8, 0, 2, 1, 0.8]
    assert [len(s["text"]) > s["prompt"] for s in seen] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert seen[3]["topP"] == 0.8 and seen[4]["shade"] == "attention"
    assert len({s["text"] for s in seen}) == 5
    assert figure.get_by_label("Temperature").input_value() == "0.8"
    assert figure.get_by_role("button", name="Take the tour").evaluate(
        "e => e === document.activeElement"
    )


def test_tour_goes_back_and_ends(gpt):
    figure = gpt()
    press(figure, "Take the tour")
    press(figure, "Next step")
    assert figure.get_by_label("Temperature").input_value() == "0"
    press(figure, "Back")
    assert figure.get_by_label("Temperature").input_value() == "0.8"
    assert figure.get_by_role("button", name="Back", exact=True).count() == 0
    press(figure, "End the tour")
    assert not figure.locator(".playground-guide").inner_text()


def test_last_step_finds_the_head_that_looks_back(gpt):
    figure = gpt()
    press(figure, "Take the tour")
    press(figure, "Next step", times=4)
    weights = np.array(
        figure.evaluate(
            """f => f.playground.read().maps.map((heads) => heads.map((rows) =>
                rows.slice(1).reduce((sum, row, t) => sum + row[t], 0)))"""
        )
    )
    found = state(figure)
    best = np.unravel_index(weights.argmax(), weights.shape)
    assert (found["block"], found["head"]) == best
    assert weights.max() / (len(found["text"]) - 1) > 0.3
    assert "(one before, " in figure.get_by_text("looks most at").inner_text()


# For everyone


def test_less_motion_means_letters_by_button(browser, site_url):
    page = browser.new_page(reduced_motion="reduce")
    page.goto(site_url + PAGE)
    figure = page.locator('.playground[data-state="running"]')
    figure.wait_for()
    assert figure.get_by_role("button", name="Write", exact=True).count() == 0
    press(figure, "Write 40")
    assert len(text(figure)) == 15 + 40
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_while_it_is_used(browser, site_url, scheme):
    page = browser.new_context(color_scheme=scheme).new_page()
    page.goto(site_url + PAGE + "?text=" + "Speak%2C+speak.+" * 6 + "&n=30&at=80")
    figure = page.locator('.playground[data-state="running"]')
    figure.wait_for()
    for shade in ("chance", "attention"):
        figure.get_by_label("Shade the letters by").select_option(shade)
        assert not checks.violations(page)
    contrast = figure.locator(".playground-letter").evaluate_all(CONTRAST)
    assert contrast > 4.5
    figure.locator("button").first.focus()
    assert not checks.hidden_focus(page, 30)
    page.context.close()


CONTRAST = """letters => Math.min(...letters.map((e) => {
    const rgb = (css) => {
        const c = new OffscreenCanvas(1, 1).getContext("2d");
        for (const fill of [getComputedStyle(e.parentElement).backgroundColor, css]) {
            c.fillStyle = fill;
            c.fillRect(0, 0, 1, 1);
        }
        return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (css) => rgb(css).map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const style = getComputedStyle(e);
    const [a, b] = [light(style.color), light(style.backgroundColor)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}))"""


def test_without_javascript_a_still_and_its_text_stand_there(browser, site_url):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site_url + PAGE)
    image = page.locator(".playground img")
    assert image.get_attribute("alt") and image.bounding_box()["width"] > 200
    assert "needs JavaScript" in page.content()
    context.close()


def test_narrow_page_does_not_scroll_sideways(gpt, page):
    page.set_viewport_size({"width": 320, "height": 700})
    figure = gpt()
    press(figure, "Take the tour")
    press(figure, "Next step", times=4)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.locator(".playground-panel").bounding_box()["width"] <= 320


def test_page_says_how_long_the_training_took(page, site_url):
    log = ROOT / "assets" / "models" / "training.json"
    facts = json.loads(log.read_text("utf-8"))["gpt"]
    page.goto(site_url + PAGE)
    said = page.locator("article").inner_text()
    assert f"{facts['epochs']} passes through {facts['samples']:,} samples" in said
    assert re.search(r"\d+ (seconds?|minutes) on two processor cores", said)
    assert f"{facts['bits']:.2f} bits per character" in re.sub(r"\s+", " ", said)
