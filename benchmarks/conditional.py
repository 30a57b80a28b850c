"""A conditional GAN: does it obey, what does that cost, and how fast is ``fit``?

Two questions, in under two minutes.  Quality: obedience of the recipe
``digits_conditional_gan`` for each class, and the variety within classes, beside the
unconditional DCGAN of ``digits_dcgan``.  Speed: images a second of ``Game.fit`` with
labels against a hand-written loop over the same networks, in turns, on TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import faster, save, take_turns

BATCH, STEPS, EPOCHS, SIZE = 128, 24, 2, 28
ROUNDS, SECONDS = 5, 45  # at least
STYLES, PER_CLASS = 3, 200  # clusters of a real class; samples of a class


def styles(judge: Any, x: np.ndarray, y: np.ndarray) -> list:
    """Return for each class its clusters of the judge's features, and their shares."""
    from sklearn.cluster import KMeans

    from genai_utils.metrics import class_shares

    found = []
    for k in range(10):
        fit = KMeans(STYLES, n_init=4, random_state=0).fit(judge.features(x[y == k]))
        found.append((fit, class_shares(fit.labels_, STYLES)))
    return found


def within(judge: Any, found: list, x: np.ndarray, y: np.ndarray) -> list[float]:
    """Return for each class how far the shares of its styles are from the real ones.

    Args:
        judge: A judge of the images.
        found: Styles and shares, as from :func:`styles`.
        x: Samples ``(n, H, W, 1)``.
        y: Their classes ``(n,)``.
    """
    from genai_utils.metrics import total_variation

    lost = []
    for k, (fit, shares) in enumerate(found):
        mine = x[y == k]  # of a free model perhaps none: then all is lost
        got = fit.predict(judge.features(mine)) if len(mine) else None
        lost.append(1.0 if got is None else round(total_variation(got, shares), 3))
    return lost


def quality(seed: int, epochs: int | None = None) -> dict:
    """Train both recipes once and return what the judge says of their samples.

    Args:
        seed: Seed of weights, noise and the order of the data.
        epochs: Passes through the data; those of the recipes by default.
    """
    from genai_utils import data, metrics
    from genai_utils.judge import load_judge
    from genai_utils.recipes import get_recipe

    judge, (x, y) = load_judge("digits"), data.digits("train")
    everything, labels = data.digits("all")
    found, shares = styles(judge, everything, labels), metrics.class_shares(labels)
    more = {} if epochs is None else {"epochs": epochs}
    rows = {}
    for name in ("digits_conditional_gan", "digits_dcgan"):
        told = {"y": y} if name == "digits_conditional_gan" else {}
        model = get_recipe(name).train(x, seed, **told, **more)
        samples = model.sample(10 * PER_CLASS, seed=seed)
        answers = judge.predict(samples)
        asked = np.arange(10 * PER_CLASS) % 10 if told else answers
        rows[name] = {
            "class_total_variation": round(metrics.total_variation(answers, shares), 3),
            "style_total_variation": within(judge, found, samples, asked),
            "sure": round(float(judge.sure(samples).mean()), 3),
        }
        if told:
            obeyed = [float(np.mean(answers[asked == k] == k)) for k in range(10)]
            rows[name]["obedience"] = [round(v, 3) for v in obeyed]
    return rows


def hand_written(model: Any) -> Callable[[np.ndarray, np.ndarray], None]:
    """Return a loop over batches with the gradient tape: no player, no game.

    Args:
        model: A conditional GAN, compiled; its networks and optimizers are used.
    """
    import tensorflow as tf

    g, d = model.generator, model.discriminator
    d_adam, g_adam = (
        model.optimizer.players[name] for name in ("discriminator", "generator")
    )

    def update(network: Any, optimizer: Any, loss: Any, tape: Any) -> None:
        variables = network.trainable_variables
        values = [v.value for v in variables]
        optimizer.apply(tape.gradient(loss, values), variables)

    def softplus(a: Any) -> Any:
        return tf.reduce_mean(tf.nn.softplus(a))

    @tf.function
    def step(x: Any, y: Any) -> None:
        noise = (tf.shape(x)[0], model.latent_dim)
        with tf.GradientTape() as tape:
            z = tf.random.normal(noise)
            fake = tf.stop_gradient(g([z, y], training=True))
            loss = softplus(-d([x, y], training=True))
            loss += softplus(d([fake, y], training=True))
        update(d, d_adam, loss, tape)
        with tf.GradientTape() as tape:
            fake = g([tf.random.normal(noise), y], training=True)
            loss = softplus(-d([fake, y], training=True))
        update(g, g_adam, loss, tape)

    def loop(x: np.ndarray, y: np.ndarray) -> None:
        x, y = tf.constant(x), tf.constant(y[:, None])
        for i in range(0, len(x), BATCH):
            step(x[i : i + BATCH], y[i : i + BATCH])
        tf.test.experimental.sync_devices()

    return loop


def speed(limit: float) -> dict:
    """Return images a second of both ways, in turns, and the median of their ratios.

    Args:
        limit: Seconds to spend, at least.
    """
    import keras

    from genai_utils.models.gan import make_dcgan

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (BATCH * STEPS, SIZE, SIZE, 1)).astype("float32")
    y = (np.arange(len(x)) % 10).astype("int32")
    model = make_dcgan((SIZE, SIZE, 1), 64, num_classes=10)
    adam = {n: keras.optimizers.Adam(2e-4) for n in ("discriminator", "generator")}
    model.compile(adam)
    loop = hand_written(model)
    ways: dict[str, Callable] = {
        "fit": lambda: model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0),
        "loop": lambda: [loop(x, y) for _ in range(EPOCHS)],
    }
    first, took = take_turns(ways, ROUNDS, limit)
    images = EPOCHS * len(x)
    speeds = {w: round(images / statistics.median(t)) for w, t in took.items()}
    return {
        "images_per_second": speeds,
        "ratio": faster(took["fit"], took["loop"]),
        "rounds": len(took["fit"]),
        "first_call_seconds": first,
    }


def main() -> None:
    """Measure both and write ``results/conditional.json``."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for the speed")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    results = {"batch": BATCH, "speed": speed(wanted.seconds)}
    print(results["speed"], flush=True)
    results["seed"], results["quality"] = wanted.seed, quality(wanted.seed)
    for name, row in results["quality"].items():
        print(name, row)
    save("conditional", results)


if __name__ == "__main__":
    main()
