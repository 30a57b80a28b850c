"""Write the small GPT of the live demo, what Keras computes with it, and its still.

`python -m tools.export_models gpt` trains on the packaged English text, rounds the
weights to 16 bits, and writes ``assets/models/gpt.bin`` and ``gpt.png``, the facts in
``training.json``, and ``tests/goldens/gpt.npz``.  What the file holds is said in
``assets/playground/runtime.js``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from tools.export_models import _array, pack

CONTEXT, WIDTH, DEPTH, HEADS, DROPOUT = 64, 96, 3, 4, 0.1
EPOCHS, BATCH_SIZE, STRIDE, RATE, DECAY = 2, 32, 8, 3e-3, 0.1
HELD_OUT = 0.1  # of the text, its end, as in chapter 16
PROMPTS = ("First Citizen:\n", "GLOUCESTER:\nWhat, is the king", "To")
SETTINGS = ((1.0, 62, 1.0), (0.7, 62, 1.0), (1.5, 5, 1.0), (1.0, 62, 0.6), (2, 9, 0.9))
START = (0.8, 62, 1.0)  # with which the page begins
WRITTEN = 90  # letters, more than the context has room for


def gpt_spec(gpt: Any, alphabet: str) -> tuple[dict, list, list]:
    """Describe a GPT with rotary positions and tied embeddings for the runtime.

    Args:
        gpt: Of ``make_gpt``.
        alphabet: The characters in the order of their ids.

    Returns:
        As ``export_models.network_spec``.

    Raises:
        ValueError: If the model is of another kind, or the alphabet does not fit.
    """
    s = gpt.settings
    if s["positions"] != "rotary" or not s["tie"]:
        raise ValueError(
            "`gpt` must have rotary positions and tied embeddings. Received: "
            f"positions={s['positions']!r}, tie={s['tie']}. Make it so, or add the "
            "other kind to runtime.js."
        )
    if len(alphabet) != s["vocab_size"]:
        raise ValueError(
            f"`alphabet` must hold {s['vocab_size']} characters. Received: "
            f"{len(alphabet)}. Give the one that the model was trained with."
        )
    blocks = _Blocks()
    table = blocks.add("weight", gpt.network.embedding.embeddings)
    layers = [{"kind": "embedding", "outputs": s["width"], "weight": table}]
    for block in gpt.blocks:
        layers += _branches(block, blocks)
    layers.append(_norm(gpt.network.norm, blocks))
    layers.append({"kind": "unembedding", "inputs": s["width"], "weight": table})
    header = {"context": s["context"], "alphabet": alphabet, "shape": [len(alphabet)]}
    header |= {"biases": blocks.size["bias"], "layers": layers}
    return header, blocks.arrays["bias"], blocks.arrays["weight"]


class _Blocks:
    """The two blocks of numbers of a model file."""

    def __init__(self) -> None:
        self.size = {"bias": 0, "weight": 0}
        self.arrays: dict[str, list[np.ndarray]] = {"bias": [], "weight": []}

    def add(self, block: str, variable: Any) -> list[int]:
        """Append an array, and return where it starts and ends."""
        array = _array(variable)
        self.arrays[block].append(array)
        start = self.size[block]
        self.size[block] += array.size
        return [start, self.size[block]]


def _branches(block: Any, blocks: _Blocks) -> list[dict]:
    attention = block.attention
    mixing = {"kind": "attention", "heads": attention.heads, "width": attention.width}
    talk = [_norm(block.norm_1, blocks), _dense(attention.qkv, blocks), mixing]
    talk.append(_dense(attention.project, blocks))
    think = [_norm(block.norm_2, blocks), _dense(block.expand, blocks)]
    think += [{"kind": "gelu"}, _dense(block.contract, blocks)]
    return [{"kind": "residual", "layers": part} for part in (talk, think)]


def _norm(norm: Any, blocks: _Blocks) -> dict:
    spec = {"kind": "layer_norm", "epsilon": norm.epsilon}
    spec["scale"] = blocks.add("bias", norm.gamma)
    return spec | {"bias": blocks.add("bias", norm.beta)}


def _dense(layer: Any, blocks: _Blocks) -> dict:
    spec = {"kind": "dense", "outputs": layer.units}
    spec["weight"] = blocks.add("weight", layer.kernel)
    return spec | {"bias": blocks.add("bias", layer.bias)}


def gpt_bytes(gpt: Any, alphabet: str) -> bytes:
    """Return a GPT as the bytes of a model file; arguments as in :func:`gpt_spec`."""
    return pack(*gpt_spec(gpt, alphabet))


def round_weights(gpt: Any) -> None:
    """Round all matrices to the 16 bits in which they are written."""
    for variable in gpt.network.weights:
        if len(variable.shape) > 1:
            variable.assign(_array(variable).astype("float16").astype("float32"))


def texts() -> tuple[Any, np.ndarray, np.ndarray]:
    """Return the tokenizer, windows to train on and windows that are held out."""
    from genai_utils import data

    text = data.english()
    letters = data.Characters("".join(sorted(set(text))))
    cut = round((1 - HELD_OUT) * len(text))
    x = data.windows(letters.encode(text[:cut]), CONTEXT + 1, stride=STRIDE)
    held_out = letters.encode(text[cut:])
    return letters, x, data.windows(held_out, CONTEXT + 1, stride=CONTEXT // 2)


def train_gpt(x: np.ndarray, vocab_size: int, epochs: int = EPOCHS) -> tuple[Any, dict]:
    """Train the GPT of the demo, and return it with what the training took.

    Args:
        x: Windows of tokens, ``(n, CONTEXT + 1)``.
        vocab_size: Number of characters.
        epochs: Passes through the windows.
    """
    import keras

    from benchmarks.common import matrix_product_speed
    from genai_utils.models.gpt import make_gpt

    shape = {"context": CONTEXT, "width": WIDTH, "depth": DEPTH, "heads": HEADS}
    gpt = make_gpt(vocab_size, **shape, positions="rotary", dropout=DROPOUT, seed=0)
    steps = epochs * -(-len(x) // BATCH_SIZE)
    warm = min(100, steps // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm, alpha=0.02, warmup_target=RATE, warmup_steps=warm
    )
    optimizer = keras.optimizers.AdamW(rate, DECAY, beta_1=0.9, beta_2=0.99)
    gpt.compile(optimizer)
    speed, start = matrix_product_speed(), time.perf_counter()
    gpt.fit(x, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - start
    speed = (speed + matrix_product_speed()) / 2
    facts = {"samples": len(x), "epochs": epochs, "batch_size": BATCH_SIZE}
    facts |= {"seconds": round(seconds), "matrix_product_gflops": round(speed)}
    return gpt, facts


def bits(gpt: Any, x: np.ndarray) -> float:
    """Return bits per character, each guessed from half a context or more, (16.6)."""
    seen = gpt.token_log_likelihood(x)[:, -gpt.context // 2 :]
    return float(-seen.mean() / np.log(2))


def gpt_goldens(gpt: Any, letters: Any) -> dict[str, np.ndarray]:
    """Return logits, maps, probabilities and a text, all of them Keras' and NumPy's.

    Args:
        gpt: The model, its weights rounded.
        letters: Its tokenizer.
    """
    goldens: dict[str, np.ndarray] = {"prompts": np.array(PROMPTS)}
    for k, prompt in enumerate(PROMPTS):
        ids = letters.encode(prompt)[None]
        goldens[f"logits_{k}"] = _array(gpt(ids))[0].astype("float32")
        goldens[f"maps_{k}"] = gpt.attention_maps(ids)[:, 0].astype("float32")
    last = goldens["logits_0"][-1:]
    goldens["settings"] = np.array(SETTINGS)
    goldens["settled"] = np.stack([settled(last, *s)[0] for s in SETTINGS])
    goldens["text"] = np.array(written(gpt, letters, PROMPTS[0], 1, START))
    return goldens


def settled(logits: np.ndarray, temperature: float, k: float, p: float) -> np.ndarray:
    """Return the probabilities from which the demo draws.

    Args:
        logits: Shape ``(B, V)``.
        temperature: Above 0.
        k: Letters that top-k keeps.
        p: Share that top-p keeps.
    """
    from genai_utils import decoding

    logits = decoding.keep_top_k(logits.astype("float64") / temperature, int(k))
    return decoding.probabilities(decoding.keep_top_p(logits, p))


def written(gpt: Any, letters: Any, prompt: str, seed: int, settings: tuple) -> str:
    """Return the prompt with ``WRITTEN`` letters more, drawn as the demo draws them.

    Args:
        gpt: The model.
        letters: Its tokenizer.
        prompt: Where the text begins.
        seed: Seed of ``noise.js``.
        settings: Temperature, top-k and top-p.
    """
    from tools.export_models import _uniform

    ids = list(letters.encode(prompt))
    for u in _uniform(seed, WRITTEN):
        logits = _array(gpt(np.array([ids[-gpt.context :]])))[0, -1:]
        p = settled(logits, *settings)[0]
        ids.append(int((np.cumsum(p) <= u).sum()))
    return str(letters.decode(np.array(ids)))


def save_gpt_still(gpt: Any, letters: Any, path: Path) -> None:
    """Draw what the demo shows: a text, the guesses for its next letter, four maps.

    Args:
        gpt: The model.
        letters: Its tokenizer.
        path: Where to.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    text = written(gpt, letters, PROMPTS[0], 1, START)[: gpt.context]
    text = text[: text.rindex(" ") + 1]  # where many letters may follow
    ids = letters.encode(text)[None]
    p = settled(_array(gpt(ids))[0, -1:], *START)[0]
    figure = plt.figure(figsize=(7.5, 4.2), layout="constrained")
    heads = gpt.settings["heads"]
    grid = figure.add_gridspec(2, 2 * heads, height_ratios=(5, 4))
    ax = figure.add_subplot(grid[0, :heads])
    ax.set_title("The text so far", loc="left", fontsize=10)
    ax.text(0, 1, text, va="top", family="monospace", fontsize=10, wrap=True)
    ax.axis("off")
    ax = figure.add_subplot(grid[0, heads:])
    order = np.argsort(-p)[:8][::-1]
    ax.barh([shown(letters.alphabet[i]) for i in order], p[order], color="#12355b")
    ax.set_title("What may come next", loc="left", fontsize=10)
    maps = gpt.attention_maps(ids)[1, 0]
    for head, weights in enumerate(maps):
        ax = figure.add_subplot(grid[1, 2 * head : 2 * head + 2])
        ax.imshow(weights, cmap="viridis", vmin=0, vmax=1)
        ax.set_title(f"Block 2, head {head + 1}", loc="left", fontsize=10)
        ax.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def shown(letter: str) -> str:
    """Return a letter that can be seen: the space as ␣, the end of a line as ↵."""
    return {" ": "␣", "\n": "↵"}.get(letter, letter)


def export(root: Path) -> dict:
    """Train, write model, goldens and still, and return what the training took.

    Args:
        root: The folder of the book.
    """
    letters, x, held_out = texts()
    gpt, facts = train_gpt(x, letters.vocab_size)
    facts["bits_before_rounding"] = round(bits(gpt, held_out), 4)
    round_weights(gpt)
    facts["bits"] = round(bits(gpt, held_out), 4)
    models = root / "assets" / "models"
    (models / "gpt.bin").write_bytes(gpt_bytes(gpt, letters.alphabet))
    golden = gpt_goldens(gpt, letters)
    np.savez_compressed(root / "tests" / "goldens" / "gpt.npz", **golden)
    save_gpt_still(gpt, letters, models / "gpt.png")
    return facts
