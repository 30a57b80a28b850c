"""Train the models whose weights come with the package, and store them there.

``make pretrained`` runs this on all of them, in about a minute each.  On another
machine the stored weights differ in the last digits.
"""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np

from genai_utils.seeds import set_seed
from genai_utils.stored import WEIGHTS

NAMES = ("digits_conditional_diffusion", "digits_flow")
LISTING = WEIGHTS / "pretrained.json"


def train(name: str) -> None:
    """Train a recipe with seed 0, and write its weights and their entry in the listing.

    Args:
        name: The recipe.
    """
    set_seed(0)
    from genai_utils import data
    from genai_utils.recipes import get_recipe

    recipe = get_recipe(name)
    x, y = data.load(recipe.data)
    labels = {"y": y} if "num_classes" in recipe.arguments else {}
    model = recipe.train(x, **labels)
    networks = [n for player in model.players() for n in player.networks]
    arrays = [w.astype("float16") for n in networks for w in n.get_weights()]
    path = WEIGHTS / f"{name}.npz"
    np.savez_compressed(path, **{f"{i:03d}": w for i, w in enumerate(arrays)})
    known = json.loads(LISTING.read_text("utf-8")) if LISTING.exists() else {}
    known[name] = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "rates": dict(recipe.rates),
        "memory": dict(recipe.memory),
        "arguments": dict(recipe.arguments),
    }
    LISTING.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
    print(f"{name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or NAMES:
        train(wanted)
