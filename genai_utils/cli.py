"""The command line: train a recipe, sample, evaluate, export, serve.

::

    python -m genai_utils train digits_conv_vae --out model
    python -m genai_utils export model --bits 8
    python -m genai_utils serve model --port 8000

A model is a folder: ``model.keras`` and ``run.json`` from ``train``, ``sampler.npz``
and ``card.json`` from ``export``.  The exit code is 0 if all went well, 1 if a command
failed, and 2 if its words or the model's card were not understood; errors go to stderr,
in one line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from genai_utils import __version__
from genai_utils.export import CardError

__all__ = ["main"]

_IMAGES = ("digits", "mnist", "fashion_mnist")
_LICENCES = {
    "digits": "UCI's terms for donated data, CC BY 4.0 (doi 10.24432/C50P49)",
    "mnist": "CC BY-SA 3.0",
    "fashion_mnist": "MIT",
}
_POINTS = 4000  # of a toy density, to train on
_MOST = 10**6  # samples, epochs, ...
_FAULTS = (ValueError, TypeError, OSError, ArithmeticError, LookupError, MemoryError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Its words, such as ``["train", "digits_dcgan", "--out", "model"]``; those
            of the process by default.

    Returns:
        The exit code, 0 if all went well, 1 if the command failed, and 2 if the
        model's card is none.

    Raises:
        SystemExit: With code 2, if the words are not understood; with 0 after
            ``--help``.
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except _FAULTS as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, CardError) else 1
    return 0


def _line(error: Exception) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(error).split())
    clear = isinstance(error, (ValueError, TypeError, OSError, FloatingPointError))
    return text if clear and text else f"{type(error).__name__}: {text}"


class _Parser(argparse.ArgumentParser):
    """One that says in one line what it does not understand."""

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        self.exit(2, f"error: {text}; for the usage see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("genai_utils", description=__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    command("recipes", _recipes, "List what can be trained.")
    train = command("train", _train, "Train a recipe and save the model.")
    train.add_argument("recipe", help="a name that `recipes` lists")
    train.add_argument("--out", type=Path, required=True, help="folder to write")
    train.add_argument("--epochs", type=_count, help="instead of the recipe's")
    train.add_argument("--rows", type=_count, help="train on so many samples only")
    train.add_argument("--seed", type=_seed, default=0)
    train.add_argument("--force", action="store_true", help="overwrite a model")
    sample = command("sample", _sample, "Draw samples into a .png or .npy file.")
    sample.add_argument("model", type=Path, help="folder of the model")
    sample.add_argument("--out", type=Path, required=True, help="file to write")
    sample.add_argument("--n", type=_count, default=32)
    sample.add_argument("--seed", type=_seed, default=0)
    sample.add_argument("--label", type=_seed, help="class of all samples")
    evaluate = command("evaluate", _evaluate, "Compare samples with test data.")
    export = command("export", _export, "Write a sampler that needs only NumPy.")
    for made in (evaluate, export):
        made.add_argument("model", type=Path, help="folder of the model")
        made.add_argument("--n", type=_count, default=500, help="samples a seed")
        made.add_argument("--seeds", type=_count, default=3, help="repetitions")
    export.add_argument("--bits", type=_count, default=8, help="of a weight")
    serve = command("serve", _serve, "Answer requests over HTTP until stopped.")
    serve.add_argument("model", type=Path, help="folder of the model")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_port, default=8000, help="0 for a free one")
    return parser


def _count(text: str) -> int:
    return _whole(text, 1, _MOST)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**32 - 1)


def _port(text: str) -> int:
    return _whole(text, 0, 2**16 - 1)


def _whole(text: str, low: int, high: int) -> int:
    if not (text.isdecimal() and len(text) <= 20 and low <= int(text) <= high):
        told = f"{text[:40]!r} is no whole number from {low} to {high}"
        raise argparse.ArgumentTypeError(told)
    return int(text)


def _recipes(args: argparse.Namespace) -> None:
    from genai_utils.recipes import RECIPES

    for name, recipe in RECIPES.items():
        here = "" if _has_data(recipe.data) else "   (in its chapter only)"
        print(f"{name:30} {recipe.data:10} {recipe.epochs:3} epochs{here}")


def _has_data(name: str) -> bool:
    from genai_utils.data import TOYS

    return name in (*_IMAGES, *TOYS)


def _data(name: str, split: str, seed: int = 0) -> tuple[np.ndarray, Any]:
    from genai_utils import data

    if name in _IMAGES:
        return data.load(name, split)
    if not _has_data(name):
        raise ValueError(
            "`recipe` must be one of images or points. Received: one that trains on "
            f"{name!r}. Its chapter shows how; `recipes` lists the others."
        )
    return data.toy(name, _POINTS, seed + (split == "test")), None


def _train(args: argparse.Namespace) -> None:
    from genai_utils.recipes import get_recipe
    from genai_utils.seeds import set_seed

    recipe = get_recipe(args.recipe)
    path = args.out / "model.keras"
    if path.exists() and not args.force:
        raise ValueError(
            f"`--out` must be a folder without a model. Received: {args.out}, which "
            "has one. Choose another, or add --force."
        )
    x, y = (a if a is None else a[: args.rows] for a in _data(recipe.data, "train"))
    set_seed(args.seed)
    classes = recipe.arguments.get("num_classes")
    settings = {} if classes is None else {"y": y.astype("int32")}
    epochs = args.epochs or recipe.epochs
    model = recipe.train(x, args.seed, epochs=epochs, **settings)
    args.out.mkdir(parents=True, exist_ok=True)
    for stale in ("card.json", "sampler.npz", "metrics.json"):
        (args.out / stale).unlink(missing_ok=True)
    model.save(path)
    history = model.history.history
    run = {
        "recipe": args.recipe,
        "data": recipe.data,
        "rows": len(x),
        "seed": args.seed,
    }
    run |= {"epochs": epochs, "genai_utils": __version__}
    run["losses"] = {name: round(values[-1], 4) for name, values in history.items()}
    _write(args.out / "run.json", run)
    print(f"{path}: {epochs} epochs, {run['losses']}")


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _read_run(folder: Path) -> dict:
    path = folder / "run.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"`model` must be a folder that `train` wrote. Received: {folder}, without "
            "run.json. Train first."
        )
    return json.loads(path.read_text("utf-8"))


def _load_model(folder: Path) -> Any:
    import keras

    import genai_utils.recipes  # noqa: F401  (registers the families)

    _read_run(folder)
    return keras.saving.load_model(folder / "model.keras", compile=False)


def _sampler(folder: Path) -> tuple[Callable[..., np.ndarray], dict]:
    """The exported sampler, without Keras, or else the model's own; and its card."""
    from genai_utils.export import LatentSampler, load_card, load_network

    if (folder / "card.json").is_file():
        card = load_card(folder, needs=["sampler.npz"])
        network = load_network(folder / "sampler.npz", ordered=True)
        sampler = LatentSampler(network, network.shape[0], network.num_classes)
        return sampler, card
    return _Keras(_load_model(folder)), {"name": _read_run(folder)["recipe"]}


class _Keras:
    """A Keras model as a sampler: its requests are answered one by one."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.num_classes = getattr(model, "num_classes", None)

    def __call__(self, n: int, seed: int = 0, label: int | None = None) -> np.ndarray:
        told = {} if self.num_classes is None else {"labels": label}
        return self.model.sample(n, seed=seed, **told)


def _sample(args: argparse.Namespace) -> None:
    from genai_utils import png

    if args.out.suffix not in (".png", ".npy"):
        raise ValueError(
            f"`--out` must end in .png or .npy. Received: {args.out.name}. Rename it."
        )
    sampler, card = _sampler(args.model)
    told = {} if args.label is None else {"label": args.label}
    if told and sampler.num_classes is None:
        raise ValueError(
            f"`--label` must be left out for a model without classes. Received: "
            f"{args.label}. Train a conditional recipe."
        )
    samples = sampler(args.n, args.seed, **told)
    if args.out.suffix == ".npy":
        np.save(args.out, samples)
    else:
        page = png.mark_visibly(png.contact_sheet(np.clip(samples, -1.0, 1.0)))
        text = {"Comment": png.MARK, "Source": card["name"], "Seed": str(args.seed)}
        args.out.write_bytes(png.encode(page, text))
    print(f"{args.out}: {args.n} samples, seed {args.seed}")


def _evaluate(args: argparse.Namespace) -> None:
    sampler, _ = _sampler(args.model)
    found = _measured(sampler, _read_run(args.model)["data"], args.n, args.seeds)
    _write(args.model / "metrics.json", found)
    _show(found)


def _show(found: dict) -> None:
    for name, numbers in found.items():
        print(f"{name:20} {numbers['value']:.3f} +- {numbers['error']:.3f}")


def _measured(sampler: Callable, name: str, n: int, seeds: int) -> dict:
    """Mean and standard deviation of each number over seeds of the sampler."""
    real = _data(name, "test")[0][:n]
    score = _judged if name in _IMAGES else _near
    rows = [score(name, sampler(n, seed), real) for seed in range(seeds)]
    found = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        spread = float(np.std(values, ddof=1)) if seeds > 1 else 0.0
        found[key] = {"value": float(np.mean(values)), "error": spread}
    return found


def _judged(name: str, samples: np.ndarray, real: np.ndarray) -> dict[str, float]:
    from genai_utils import judge, metrics

    judging = judge.load_judge(name)
    samples = np.clip(samples, -1.0, 1.0)
    features = judging.features(samples), judging.features(real)
    return {
        "frechet_distance": metrics.frechet_distance(*features),
        "sure_share": float(judging.sure(samples).mean()),
    }


def _near(name: str, samples: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Distances between the shadows of two sets of points on the two axes."""
    from genai_utils import metrics

    return {
        f"wasserstein_x{i + 1}": metrics.wasserstein_1d(samples[:, i], real[:, i])
        for i in range(2)
    }


def _export(args: argparse.Namespace) -> None:
    from genai_utils import export

    run, model = _read_run(args.model), _load_model(args.model)
    part = getattr(model, "decoder", None) or getattr(model, "generator", None)
    if part is None or not hasattr(model, "latent_dim"):
        raise ValueError(
            "`model` must be a VAE or a GAN. Received: a "
            f"{type(model).__name__}. `serve` serves it with Keras, too."
        )
    bernoulli = getattr(model, "likelihood", "") == "bernoulli"
    network = export.read_network(part, "bernoulli" if bernoulli else "linear")
    path = export.save_network(args.model / "sampler.npz", network, args.bits)
    network = export.load_network(path, ordered=True)  # what `serve` will answer
    sampler = export.LatentSampler(network, model.latent_dim, network.num_classes)
    found = _measured(sampler, run["data"], args.n, args.seeds)
    card = {
        "name": f"{run['recipe']}, seed {run['seed']}, {args.bits} bits",
        "data": f"{run['data']}, {run['rows']} rows",
        "licence": _LICENCES.get(run["data"], "none: made by a function"),
        "recipe": run,
        "metrics": found,
        "limits": "A teaching model. Its samples may copy training data and lack "
        "whole kinds of data; nothing was tested beyond these metrics.",
    }
    export.save_card(args.model, card, [path.name])
    print(f"{path}: {path.stat().st_size} bytes, {args.bits} bits a weight")
    _show(found)


def _serve(args: argparse.Namespace) -> None:
    from genai_utils.serve import Server

    sampler, card = _sampler(args.model)
    with (
        _stopped_by_signals() as stop,
        Server(sampler, card, host=args.host, port=args.port) as server,
    ):
        print(f"serving {card['name']} at {server.url}; stop with Ctrl-C", flush=True)
        while not stop.wait(0.2):
            pass
    print("closed")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; afterwards they do what they did before."""
    stop, before = threading.Event(), {}
    try:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                before[name] = signal.signal(name, lambda *_: stop.set())
        yield stop
    finally:
        for name, handler in before.items():  # None is one that Python does not know
            signal.signal(name, signal.SIG_DFL if handler is None else handler)
