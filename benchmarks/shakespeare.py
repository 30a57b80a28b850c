"""Two questions about small GPTs that take minutes, not a chapter's seconds.

``python -m benchmarks.shakespeare`` writes ``results/shakespeare.json``:

- *contest*: Tiny Shakespeare from ``$GENAI_DATA_DIR``, letters, one million of them.
  The recipe that nanoGPT gives for a laptop's processor (4 layers, 4 heads, 128 wide,
  context 64, batch 12, 2,000 steps), written again in PyTorch from its description,
  against the same network as the book trains it, on TensorFlow;
- *sums*: additions of three-digit numbers, exact answers on sums that were held out.

Each contestant runs in a process of its own; evaluation stops the clock.

Reference:
    https://github.com/karpathy/nanoGPT, section "quick start".
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, save

PARTS = ("contest", "sums")
CONTEXT, WIDTH, DEPTH, HEADS = 64, 128, 4, 4
NANO_BATCH, NANO_STEPS = 12, 2_000
TARGET = 1.88  # nats a letter that nanoGPT reports
BOOK_BATCH, BOOK_RATE, BOOK_STEPS = 24, 4e-3, 660
SCORED = 400  # windows of the last tenth of the text
SUM_EXAMPLES, SUM_EPOCHS, SUM_RATE, SUM_BATCH = 60_000, 6, 2e-3, 128
SETTINGS = {
    "nanogpt": "AdamW, betas 0.9 and 0.99, weight decay 0.1, 100 steps up to 1e-3, "
    "then down along a cosine to 1e-4, gradients clipped at 1",
    "book": f"rotary positions, Adam with betas 0.9 and 0.99, batch {BOOK_BATCH}, "
    f"{BOOK_STEPS} steps, 5 % of them up to {BOOK_RATE:g}, then down along a cosine",
}


def letters() -> tuple[np.ndarray, np.ndarray, int]:
    """Return the letters to learn and to test on, as numbers, and how many there are.

    Raises:
        FileNotFoundError: If the text is not there, with what to do.
    """
    folder = Path(os.environ.get("GENAI_DATA_DIR", ".")) / "tiny_shakespeare"
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    if not files:
        raise FileNotFoundError(
            f"no text in {folder}. Set GENAI_DATA_DIR to a folder with "
            "tiny_shakespeare/input.txt (1,115,394 letters)."
        )
    text = max(files, key=lambda f: f.stat().st_size).read_text("utf-8")
    alphabet = sorted(set(text))
    places = {c: i for i, c in enumerate(alphabet)}
    ids = np.array([places[c] for c in text], "int32")
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(alphabet)


def windows_at(ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return rows of ``CONTEXT + 1`` letters from the given places."""
    return ids[starts[:, None] + np.arange(CONTEXT + 1)]


def scored(test: np.ndarray) -> np.ndarray:
    """Return the windows on which both are scored."""
    return windows_at(test, np.linspace(0, len(test) - CONTEXT - 1, SCORED).astype(int))


# nanoGPT's recipe, in PyTorch


def nano_network(vocab: int) -> Any:
    """Make the network: blocks with the norm before, no biases, tied embeddings."""
    import torch
    from torch import nn
    from torch.nn import functional as f

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList(
                nn.LayerNorm(WIDTH, bias=False) for _ in range(2)
            )
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
            self.project = nn.Linear(WIDTH, WIDTH, bias=False)
            self.expand = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
            self.contract = nn.Linear(4 * WIDTH, WIDTH, bias=False)

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            parts = self.qkv(self.norms[0](x)).view(b, t, 3, HEADS, c // HEADS)
            q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, T, head_dim)
            mixed = f.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.project(mixed.transpose(1, 2).reshape(b, t, c))
            return x + self.contract(f.gelu(self.expand(self.norms[1](x))))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.places = (nn.Embedding(n, WIDTH) for n in (vocab, CONTEXT))
            self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
            self.norm = nn.LayerNorm(WIDTH, bias=False)
            for name, weight in self.named_parameters():
                if weight.dim() > 1:
                    last = "project" in name or "contract" in name
                    nn.init.normal_(
                        weight, std=0.02 / (math.sqrt(2 * DEPTH) if last else 1)
                    )

        def forward(self, ids: Any) -> Any:
            x = self.table(ids) + self.places(torch.arange(ids.shape[1]))
            return self.norm(self.blocks(x)) @ self.table.weight.T

    return Network()


def nano(seed: int) -> list[dict]:
    """Train nanoGPT's recipe; return losses on the test windows against seconds."""
    import torch
    from torch.nn import functional as f

    torch.manual_seed(seed)
    learnt, test, vocab = letters()
    net, rng = nano_network(vocab), np.random.default_rng(seed)
    decayed = [p for p in net.parameters() if p.dim() > 1]
    rest = [p for p in net.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}]
    groups += [{"params": rest, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))

    def loss_of(rows: np.ndarray) -> Any:
        rows = torch.from_numpy(rows).long()
        return f.cross_entropy(net(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

    points, spent = [], 0.0
    for step in range(NANO_STEPS):
        start = time.perf_counter()
        part = max(0.0, (step - 100) / (NANO_STEPS - 100))
        rate = 1e-4 + 9e-4 * 0.5 * (1 + math.cos(math.pi * part))
        for group in adam.param_groups:
            group["lr"] = rate if step >= 100 else 1e-3 * (step + 1) / 101
        rows = windows_at(learnt, rng.integers(len(learnt) - CONTEXT, size=NANO_BATCH))
        adam.zero_grad(set_to_none=True)
        loss_of(rows).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        spent += time.perf_counter() - start
        if (step + 1) % 100 == 0:
            with torch.inference_mode():
                value = float(loss_of(scored(test)))
            points.append(
                {"steps": step + 1, "seconds": round(spent, 2), "loss": round(value, 4)}
            )
            print(points[-1], file=sys.stderr, flush=True)
    return points


# The book's


def book(seed: int) -> list[dict]:
    """Train the book's GPT; return losses on the test windows against seconds."""
    import keras

    from genai_utils.models.gpt import make_gpt

    keras.utils.set_random_seed(seed)
    learnt, test, vocab = letters()
    rng, rows = np.random.default_rng(seed), scored(test)
    starts = rng.integers(len(learnt) - CONTEXT, size=BOOK_BATCH * BOOK_STEPS)
    gpt = make_gpt(vocab, CONTEXT, WIDTH, DEPTH, HEADS, positions="rotary", seed=seed)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        BOOK_STEPS - BOOK_STEPS // 20,
        0.02,
        warmup_target=BOOK_RATE,
        warmup_steps=BOOK_STEPS // 20,
    )
    gpt.compile(keras.optimizers.Adam(rate, 0.9, 0.99))

    class Scorer(keras.callbacks.Callback):
        """Score every 100 steps and at the end, with the clock standing still."""

        def on_train_begin(self, logs: dict | None = None) -> None:
            self.points: list[dict] = []
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            if (batch + 1) % 100 and batch + 1 < BOOK_STEPS:
                return
            now = time.perf_counter()
            loss = -float(self.model.token_log_likelihood(rows).mean())
            point = {"steps": batch + 1, "seconds": round(now - self.start, 2)}
            self.points.append(point | {"loss": round(loss, 4)})
            print(self.points[-1], file=sys.stderr, flush=True)
            self.start += time.perf_counter() - now

    scorer = Scorer()
    fit = {"batch_size": BOOK_BATCH, "shuffle": False, "verbose": 0}
    gpt.fit(windows_at(learnt, starts), callbacks=[scorer], **fit)
    return scorer.points


def sums(seed: int, digits: int = 3) -> dict:
    """Train a GPT on additions; return the share of held-out sums that are right.

    Args:
        seed: Seed of weights, noise and sums.
        digits: Digits of both numbers.
    """
    import keras

    from genai_utils import data, decoding
    from genai_utils.models.gpt import make_gpt

    keras.utils.set_random_seed(seed)
    texts = data.additions(SUM_EXAMPLES, digits, seed=seed, reverse=True)
    learnt, test = data.split_sums(texts)
    names = data.Characters("0123456789+=.")
    length = len(learnt[0])
    gpt = make_gpt(names.vocab_size, length - 1, WIDTH, 2, 8, seed=seed)
    steps = SUM_EPOCHS * math.ceil(len(learnt) / SUM_BATCH)
    rate = keras.optimizers.schedules.CosineDecay(SUM_RATE, steps, 0.02)
    gpt.compile(keras.optimizers.Adam(rate, 0.9, 0.99))
    start = time.perf_counter()
    fit = {"batch_size": SUM_BATCH, "epochs": SUM_EPOCHS, "verbose": 0}
    gpt.fit(names.encode(learnt), data.answer_mask(learnt), **fit)
    took = time.perf_counter() - start
    ids = names.encode(test[:2_000])
    asked = learnt[0].index("=") + 1
    written = gpt.generate(ids[:, :asked], length - asked, decoding.greedy())
    free = data.answer_mask(test[:2_000])[:, asked:] == 0  # after the full stop
    exact = float(((written == ids)[:, asked:] | free).all(axis=1).mean())
    return {
        "digits": digits,
        "sums_learnt": len(learnt),
        "sums_tested": len(ids),
        "exact": round(exact, 4),
        "seconds": round(took, 1),
    }


# Together


def apart(name: str, backend: str, seed: int) -> Any:
    """Run a contestant in a process of its own and return what it found."""
    command = [sys.executable, "-m", "benchmarks.shakespeare", "--worker", name]
    command += ["--seed", str(seed)]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def contest(seed: int) -> dict:
    """Run both, one after the other, and compare their seconds to the target."""
    runs = {"nanogpt": apart("nano", "torch", seed)}
    runs["book"] = apart("book", "tensorflow", seed)
    reached = {
        name: next((p["seconds"] for p in points if p["loss"] <= TARGET), None)
        for name, points in runs.items()
    }
    limit = reached["nanogpt"] or runs["nanogpt"][-1]["seconds"]
    within = [p["loss"] for p in runs["book"] if p["seconds"] <= limit]
    return {
        "settings": SETTINGS,
        **runs,
        "seconds_to_1.88": reached,
        "book_loss_by_then": min(within, default=None),
    }


def main() -> None:
    """Run the parts that are asked for and write ``results/shakespeare.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--worker", choices=("nano", "book", "sums"))
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    if wanted.worker:
        found = {"nano": nano, "book": book, "sums": sums}[wanted.worker](wanted.seed)
        print(json.dumps(found))
        return
    path = RESULTS / "shakespeare.json"
    results = json.loads(path.read_text("utf-8")) if path.exists() else {}
    results.pop("machine", None)
    for part in wanted.parts:
        print("==", part, flush=True)
        if part == "contest":
            results[part] = contest(wanted.seed)
            print({k: v for k, v in results[part].items() if k not in SETTINGS})
        else:
            results[part] = apart("sums", "tensorflow", wanted.seed)
            print(results[part])
        save("shakespeare", results)


if __name__ == "__main__":
    main()
