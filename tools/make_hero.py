"""Draw assets/hero.png: real digits, digits of the VAE, digits of the DCGAN."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genai_utils.seeds import set_seed

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Train both models as chapters 07 and 11 do, and draw ten digits of each."""
    set_seed(0)
    import keras
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    from genai_utils import data, plots
    from genai_utils.models.gan import make_dcgan
    from genai_utils.models.vae import make_conv_vae

    x, y = data.digits("train")
    vae = make_conv_vae(latent_dim=8)
    vae.compile(keras.optimizers.Adam(1e-3))
    vae.fit(x, batch_size=64, epochs=60, verbose=0)
    gan = make_dcgan()
    average = {"use_ema": True, "ema_momentum": 0.99}
    gan.compile(
        {
            "discriminator": keras.optimizers.Adam(5e-4, beta_1=0.5),
            "generator": keras.optimizers.Adam(2e-3, beta_1=0.5, **average),
        }
    )
    gan.fit(x, batch_size=64, epochs=30, verbose=0)
    real = np.stack([x[y == k][0] for k in range(10)])
    rows = np.concatenate([real, vae.sample(10, seed=1), gan.sample(10, seed=1)])
    figure, ax = plt.subplots(figsize=(8, 2.5), layout="constrained")
    plots.image_grid(rows, ax=ax)
    figure.savefig(ROOT / "assets" / "hero.png", dpi=120)


if __name__ == "__main__":
    main()
