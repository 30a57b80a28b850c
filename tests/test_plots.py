"""Plots show what they were given, where it belongs."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from genai_utils import plots

mpl.use("agg")
rng = np.random.default_rng(0)


def test_image_grid_puts_each_image_in_its_place():
    images = rng.uniform(-1, 1, (7, 4, 5, 1)).astype("float32")
    page = plots.image_grid(images, ncols=3).images[0].get_array()
    assert page.shape == (3 * 5 - 1, 3 * 6 - 1)
    np.testing.assert_allclose(page[5:9, 6:11], -images[4, ..., 0])  # ink is dark
    assert (page[4] == 1).all() and (page[10:, 6:] == 1).all()


def test_plots_return_axes_with_what_they_were_given():
    z, labels = rng.normal(size=(60, 2)), np.arange(60) % 10
    ax = plots.latent_map(z, labels)
    assert {t.get_text() for t in ax.texts} == {str(k) for k in range(10)}
    ax = plots.loss_curves({"a": [3.0, 2.0], "b": [1.0, 1.5]})
    assert [line.get_ydata().tolist() for line in ax.lines] == [[3, 2], [1, 1.5]]
    assert len({line.get_linestyle() for line in ax.lines}) == 2
    ax = plots.scatter2d(z, reference=z + 1)
    np.testing.assert_allclose(ax.collections[1].get_offsets(), z)
    mpl.pyplot.close("all")


def test_image_grid_refuses_what_it_cannot_lay_out():
    images = np.zeros((4, 2, 2, 1))
    with pytest.raises(ValueError, match=r"`ncols` must be .* Received: 0"):
        plots.image_grid(images, ncols=0)
    with pytest.raises(ValueError, match=r"`row_labels` must hold .* Received: "):
        plots.image_grid(images, ncols=2, row_labels=["one"])
