"""Tokens a second when one text is written: with a KV cache and without, each engine.

Each engine runs in a process of its own.  The model is the default of ``make_gpt`` with
room for 1,024 tokens and random weights; greedy choices, one text at a time.  With a
cache a whole text is written; without, one token is written after each of evenly spaced
beginnings.  The ways take turns, round after round, and medians over rounds are given.
PyTorch also runs the same model written plainly, whose logits are compared first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import save, seconds

ENGINES = ("tensorflow", "jax", "torch")
VOCAB, CONTEXT, LENGTHS = 65, 1024, (64, 256, 1024)
BEGINNINGS = 8  # evenly spaced ones that stand for all, without a cache
ROUNDS, SECONDS = 3, 20  # at least; for each engine, at most after these
WANTED = 5.0  # with a cache against without, at 256 tokens


class Plain:
    """The same GPT in plain PyTorch, from the weights of a Keras model."""

    def __init__(self, gpt: Any) -> None:
        """Copy the weights of ``gpt``, whose positions are learned."""
        import torch
        from keras import ops

        def tensor(v: Any) -> Any:
            return torch.tensor(np.array(ops.convert_to_numpy(v)))

        def dense(layer: Any) -> tuple:
            return tensor(layer.kernel).T.contiguous(), tensor(layer.bias)

        def norm(layer: Any) -> tuple:
            return tensor(layer.gamma), tensor(layer.beta)

        net = gpt.network
        self.heads, self.context = gpt.settings["heads"], gpt.context
        self.table, self.places = map(
            tensor, (net.embedding.embeddings, net.places.embeddings)
        )
        self.norm = norm(net.norm)
        self.blocks = [
            (
                norm(b.norm_1),
                dense(b.attention.qkv),
                dense(b.attention.project),
                norm(b.norm_2),
                dense(b.expand),
                dense(b.contract),
            )
            for b in gpt.blocks
        ]

    def start(self) -> list:
        """Return an empty cache: keys and values of each block."""
        import torch

        shape = (1, self.heads, self.context, self.table.shape[1] // self.heads)
        return [(torch.zeros(shape), torch.zeros(shape)) for _ in self.blocks]

    def logits(self, tokens: Any, cache: list | None = None, past: int = 0) -> Any:
        """Return logits (1, T, V) of tokens (1, T); the cache is filled in place."""
        from torch.nn import functional as f

        length, width = tokens.shape[1], self.table.shape[1:]
        x = self.table[tokens] + self.places[past : past + length]
        for i, (norm_1, qkv, project, norm_2, expand, contract) in enumerate(
            self.blocks
        ):
            parts = f.linear(f.layer_norm(x, width, *norm_1), *qkv)
            parts = parts.view(1, length, 3, self.heads, -1)
            q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (1, heads, T, head_dim)
            if cache is not None:
                keys, values = cache[i]
                keys[:, :, past : past + length] = k
                values[:, :, past : past + length] = v
                k, v = keys[:, :, : past + length], values[:, :, : past + length]
            mixed = f.scaled_dot_product_attention(q, k, v, is_causal=past == 0)
            mixed = mixed.transpose(1, 2).reshape(1, length, -1)
            x = x + f.linear(mixed, *project)
            hidden = f.gelu(f.linear(f.layer_norm(x, width, *norm_2), *expand))
            x = x + f.linear(hidden, *contract)
        return f.linear(f.layer_norm(x, width, *self.norm), self.table)

    def with_cache(self, length: int) -> None:
        """Write a text of ``length`` tokens after the first, greedily."""
        import torch

        with torch.inference_mode():
            cache, token = self.start(), torch.zeros((1, 1), dtype=torch.long)
            for past in range(length - 1):
                token = self.logits(token, cache, past)[:, -1:].argmax(-1)

    def without(self, length: int) -> None:
        """Write one token after each beginning."""
        import torch

        with torch.inference_mode():
            for size in beginnings(length):
                tokens = torch.zeros((1, size), dtype=torch.long)
                self.logits(tokens)[:, -1:].argmax(-1)


def beginnings(length: int) -> list[int]:
    """Return lengths from 1 to ``length - 1``, in the middles of equal parts."""
    part = (length - 1) / BEGINNINGS
    return [round(part * (i + 0.5) + 0.5) for i in range(BEGINNINGS)]


def ways(gpt: Any) -> dict[str, tuple[Callable, Callable]]:
    """Map each way of writing to what it does with a cache and without."""
    from genai_utils.decoding import greedy

    def with_cache(length: int) -> None:
        gpt.generate(np.zeros((1, 1), int), length - 1, greedy())

    def without(length: int) -> None:
        for size in beginnings(length):
            gpt.generate(np.zeros((1, size), int), 1, greedy(), cache=False)

    return {"book": (with_cache, without)}


def plainly(gpt: Any) -> dict[str, tuple[Callable, Callable]]:
    """Return the way of plain PyTorch, once its logits agree with the book's.

    Raises:
        RuntimeError: If they do not.
    """
    import torch

    plain = Plain(gpt)
    tokens = np.random.default_rng(0).integers(0, VOCAB, (1, 40))
    with torch.inference_mode():
        theirs = plain.logits(torch.from_numpy(tokens))[:, -1].numpy()
        cache, steps = plain.start(), []
        for t in range(40):
            one = torch.from_numpy(tokens[:, t : t + 1])
            steps.append(plain.logits(one, cache, t))
    ours = gpt.step(tokens, gpt.start_cache(1))[0]
    off = max(abs(theirs - ours).max(), abs(steps[-1][:, -1].numpy() - ours).max())
    if off > 1e-3:
        raise RuntimeError(f"plain PyTorch is another model. Received: off by {off}.")
    return {"plain PyTorch": (plain.with_cache, plain.without)}


def worker(engine: str, limit: float) -> None:
    """Measure on the engine of this process; print JSON lines.

    Args:
        engine: The Keras backend of this process.
        limit: Seconds after which no further round begins.
    """
    from genai_utils.models.gpt import make_gpt
    from genai_utils.seeds import set_seed

    set_seed(0)
    if engine == "torch":
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
    gpt = make_gpt(VOCAB, context=CONTEXT)
    found = ways(gpt) | (plainly(gpt) if engine == "torch" else {})
    first = {}
    for way, (with_cache, without) in found.items():
        first[way] = seconds(lambda run=with_cache: run(LENGTHS[-1]))
        for length in LENGTHS:
            without(length)  # compiles
        for _ in range(3 if engine == "tensorflow" else 1):  # until XLA has all sizes
            with_cache(LENGTHS[-1] // 2)
    runs: dict[tuple, list] = {}
    start = time.perf_counter()
    for round_ in range(20):
        if round_ >= ROUNDS and time.perf_counter() - start > limit:
            break
        for way, pair in found.items():
            for length in LENGTHS:
                for label, run, tokens in zip(
                    ("cache", "none"), pair, (length - 1, BEGINNINGS), strict=True
                ):
                    took = seconds(lambda run=run, length=length: run(length))
                    runs.setdefault((way, length, label), []).append(tokens / took)
    for (way, length, label), values in runs.items():
        row = {
            "engine": engine,
            "way": way,
            "tokens": length,
            "cache": label == "cache",
            "tokens_per_second": round(statistics.median(values), 1),
            "runs": [round(v, 1) for v in values],
            "first_text_seconds": round(first[way], 2),
        }
        print("@" + json.dumps(row), flush=True)


def measured(engine: str, limit: float) -> list[dict]:
    """Run a worker in a process of its own and return its rows.

    Raises:
        RuntimeError: If it fails, with the last line of its errors.
    """
    command = [sys.executable, "-m", "benchmarks.decoding", "--worker", engine]
    command += ["--seconds", str(limit)]
    environment = {**os.environ, "KERAS_BACKEND": engine}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"{engine}: {' '.join(last)}")
    lines = done.stdout.splitlines()
    return [json.loads(line[1:]) for line in lines if line.startswith("@")]


def gains(rows: list[dict]) -> dict[str, float]:
    """Map each engine, way and length to how many times faster the cache makes it."""
    speed = {
        (r["engine"], r["way"], r["tokens"], r["cache"]): r["tokens_per_second"]
        for r in rows
    }
    return {
        f"{engine}, {way}, {tokens}": round(
            value / speed[engine, way, tokens, False], 2
        )
        for (engine, way, tokens, cache), value in speed.items()
        if cache
    }


def main() -> None:
    """Run each engine that is installed and write ``results/decoding.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", choices=ENGINES)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    wanted = parser.parse_args()
    if wanted.worker:
        worker(wanted.worker, wanted.seconds)
        return
    rows, missing = [], []
    for engine in ENGINES:
        print(f"== {engine}", flush=True)
        try:
            rows += measured(engine, wanted.seconds)
        except RuntimeError as error:
            missing.append(str(error))
            print("not measured:", error)
    found = gains(rows)
    reached = found.get("tensorflow, book, 256", 0.0) >= WANTED
    results = {"context": CONTEXT, "rows": rows, "gains": found, "wanted": WANTED}
    save("decoding", {**results, "reached": reached, "missing": missing})
    for row in rows:
        print({k: v for k, v in row.items() if k != "runs"})
    print(found, "reached" if reached else f"not {WANTED} times at 256 tokens")


if __name__ == "__main__":
    main()
