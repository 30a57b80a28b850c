"""Draw assets/hero.png: real digits, digits of the VAE, digits of the DCGAN."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genai_utils.seeds import set_seed

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Train both models as chapters 07 and 11 do, and draw ten digits of each."""
    set_seed(0)
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    from genai_utils import data, plots
    from genai_utils.recipes import get_recipe

    x, y = data.digits("train")
    vae = get_recipe("digits_conv_vae").train(x)
    gan = get_recipe("digits_dcgan").train(x)
    real = np.stack([x[y == k][0] for k in range(10)])
    rows = np.concatenate([real, vae.sample(10, seed=1), gan.sample(10, seed=1)])
    figure, ax = plt.subplots(figsize=(8, 2.5), layout="constrained")
    plots.image_grid(rows, ax=ax)
    figure.savefig(ROOT / "assets" / "hero.png", dpi=120)


if __name__ == "__main__":
    main()
