"""Train the judge of a data set and store it in the package.

Run ``.venv/bin/python tools/train_judge.py digits``; it takes about half a minute, a
few minutes for ``mnist`` and ``fashion_mnist``.
The stored file then differs from an earlier one in the last digits on another machine.
"""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np

from genai_utils.seeds import set_seed
from genai_utils.stored import WEIGHTS


def train(name: str) -> None:
    """Train on the training images, measure on the test images, write two files."""
    set_seed(0)
    import keras
    from keras import layers

    from genai_utils.data import load
    from genai_utils.judge import Judge, confidence_threshold

    x, y = load(name, "train")
    x_test, y_test = load(name, "test")
    relu = {"strides": 2, "activation": "relu"}
    model = keras.Sequential(
        [
            layers.Input(x.shape[1:]),
            layers.RandomTranslation(0.08, 0.08, fill_mode="constant", fill_value=-1.0),
            layers.ZeroPadding2D(1),
            layers.Conv2D(16, 4, **relu, name="conv1"),
            layers.ZeroPadding2D(1),
            layers.Conv2D(32, 4, **relu, name="conv2"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(32, activation="relu", name="dense"),
            layers.Dense(10, name="logits"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    epochs = 80 if name == "digits" else 20
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * -(-len(x) // 64))
    model.compile(keras.optimizers.AdamW(rate), loss)
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=2)
    weights = {}
    probe = keras.Model(model.inputs, model.get_layer("dense").output)
    size = np.sqrt((probe.predict(x, verbose=0) ** 2).mean())
    for layer, kernel, bias in (("dense", 1 / size, 1 / size), ("logits", size, 1.0)):
        w, b = model.get_layer(layer).get_weights()  # ReLU: the logits stay the same
        model.get_layer(layer).set_weights([w * kernel, b * bias])
    for layer in ("conv1", "conv2", "dense", "logits"):
        w, b = model.get_layer(layer).get_weights()
        weights[f"{layer}_w"], weights[f"{layer}_b"] = np.float16(w), np.float16(b)
    path = WEIGHTS / f"judge_{name}.npz"
    np.savez_compressed(path, **weights)
    judge = Judge({k: v.astype("float32") for k, v in weights.items()}, x.shape[1:], 0)
    accuracy = float((judge.predict(x_test) == y_test).mean())
    listing = WEIGHTS / "judges.json"
    known = json.loads(listing.read_text()) if listing.exists() else {}
    known[name] = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "image_shape": list(x.shape[1:]),
        "accuracy": round(accuracy, 4),
        "threshold": confidence_threshold(judge.confidence(x_test)),
    }
    listing.write_text(json.dumps(known, indent=1) + "\n")
    print(f"{name}: accuracy {accuracy:.4f}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    train(*sys.argv[1:])
