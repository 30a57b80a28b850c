"""Draw assets/hero.png, for links to the book: real digits, and the end of the film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tools.export_models import FILM, grey, save_still

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Draw a row of real digits above what the DCGAN of `make demos` draws."""
    from genai_utils import data

    x, y = data.load("mnist", "train")
    rows, columns = FILM
    real = grey(np.stack([x[y == k][0] for k in range(columns)]))
    film = np.asarray(Image.open(ROOT / "assets" / "models" / "film.png"))
    step = real.shape[1] + 2
    last = film[-rows * step :].reshape(rows, step, columns, step).swapaxes(1, 2)
    drawn = last.reshape(rows * columns, step, step)[:, 1:-1, 1:-1]
    pictures = np.concatenate([real, drawn])
    save_still(pictures, columns, ROOT / "assets" / "hero.png", scale=3)


if __name__ == "__main__":
    main()
