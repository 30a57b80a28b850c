"""What may steady the game of the GAN laboratory: gradients, cures, planted faults."""

from __future__ import annotations

import pytest

from browser.test_demos import PAGES, module_url, number, plant, play

# Spectral normalisation and the deviation of the batch, against finite differences of
# the loss with the vectors u and v held fixed.
GRADIENTS = """async ([url, spectral, deviation]) => {
    const { Game } = await import(url + "gan.js");
    const { TOYS, draw } = await import(url + "toys.js");
    let worst = 0;
    for (const r1 of [0, 0.7]) {
        const settings = { hidden: 7, r1, seed: 3, spectral, deviation };
        const game = new Game(TOYS.ring, settings);
        const real = draw(TOYS.ring, 9, game.random, game.normal);
        const z = game.noise(9);
        const fake = game.generator.forward(z, 9).slice();
        const d = game.discriminator;
        d.layers.at(-1).w.value[7] = 0.4;  // the deviation's weight, zero at the start
        const penalty = () => r1 && d.penalise(real, 9, r1);
        const losses = {
            discriminator: () => {
                d.normalise(0);
                return penalty() + game.addDiscriminatorGradient(real, fake);
            },
            generator: () => game.addGeneratorGradient(z),
        };
        for (const [player, loss] of Object.entries(losses)) {
            const net = game[player];
            net.layers.forEach(({ b }) => b.value.forEach((_, i) => {
                b.value[i] = 0.1 * game.normal(); }));
            net.parameters().forEach((p) => p.grad.fill(0));
            d.normalise(0);
            if (player === "discriminator") game.addDiscriminatorGradient(real, fake);
            else loss();
            net.undivide();
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
SIGMAS = """async (url) => {
    const { MLP } = await import(url + "mlp.js");
    const { uniform } = await import(url + "noise.js");
    const net = new MLP([2, 9, 9, 1], uniform(5));
    net.set({ spectral: true });
    return net.layers.map(({ used, inputs, outputs }) => ({
        used: Array.from(used), inputs, outputs }));
}"""


@pytest.fixture
def lab(page, site_url):
    """Open the laboratory and wait until it runs."""
    page.goto(site_url + PAGES["gan-lab"])
    page.locator(".playground").scroll_into_view_if_needed()
    figure = page.locator('.playground[data-state="running"]')
    figure.wait_for()
    return figure


@pytest.mark.parametrize("deviation", [0, 1], ids=["alone", "with deviation"])
@pytest.mark.parametrize("spectral", [0, 1], ids=["free", "spectral"])
def test_gradients_equal_finite_differences(lab, page, spectral, deviation):
    error = page.evaluate(GRADIENTS, [module_url(page, ""), spectral, deviation])
    assert error < 1e-6


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(g - through) / sigma", "g / sigma"),
        ("(sum * (a - mean[k]))", "(0 * (a - mean[k]))"),
        ("(n * width * size[k])", "(n * size[k])"),
    ],
    ids=["sigma", "deviation", "features"],
)
def test_fault_in_the_gradients_is_found(page, site_url, old, new):
    served = plant(page, "mlp.js", old, new)
    page.goto(site_url + PAGES["gan-lab"])
    page.locator(".playground").scroll_into_view_if_needed()
    page.locator('.playground[data-state="running"]').wait_for()
    assert page.evaluate(GRADIENTS, [module_url(page, ""), 1, 1]) > 1e-4
    assert served


def test_largest_singular_value_of_each_layer_is_one(lab, page):
    import numpy as np

    for layer in page.evaluate(SIGMAS, module_url(page, "")):
        matrix = np.array(layer["used"]).reshape(layer["inputs"], layer["outputs"])
        assert np.linalg.svd(matrix)[1][0] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("medicine", ["r1", "spectral", "deviation", "turns"])
def test_a_collapse_is_cured_by_keyboard(lab, page, medicine):
    lab.get_by_role("button", name="Provoke mode collapse").press("Enter")
    play(lab, 150)
    assert number(lab, "spots covered") <= 3
    choice = lab.get_by_label("Cure with")
    choice.focus()
    while choice.input_value() != medicine:
        choice.press("ArrowDown")
    lab.get_by_role("button", name="Cure (no reset)").press("Enter")
    label, dose = {
        "r1": ("R1 penalty", 0.1),
        "spectral": ("Spectral normalisation", 1),
        "deviation": ("how much a batch varies", 1),
        "turns": ("Discriminator’s steps", 5),
    }[medicine]
    assert float(lab.get_by_label(label).input_value()) == dose
    assert lab.get_by_label("Generator’s steps a round").input_value() == "1"
    play(lab, 600)
    assert number(lab, "spots covered") >= 6


def test_controls_switch_the_discriminator_without_a_reset(lab):
    play(lab, 3)
    for name in ("Spectral normalisation", "how much a batch varies"):
        for value in ("1", "0"):
            lab.get_by_label(name).select_option(value)
            play(lab, 1)
    assert number(lab, "rounds played") == 7
    found = lab.evaluate(
        "f => f.playground.game.discriminator.layers.at(-1).used.length"
    )
    assert found == 65
