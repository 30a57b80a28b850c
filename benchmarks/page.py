"""Write the pages of results from the JSON files in ``results/``.

``book/status.md`` and ``book/benchmarks.md`` are ordinary pages; what stands between
``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced by what is measured.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import budgets as limits
from benchmarks.common import RESULTS

BOOK = Path(__file__).parent.parent / "book"
PAGES = (BOOK / "status.md", BOOK / "benchmarks.md")
FIGURES = BOOK / "figures"
CHAPTERS = {
    "shakespeare": "Chapter 16: a small GPT for minutes instead of seconds",
    "decoding": "Chapter 17: tokens a second, with a KV cache and without",
    "cures": "Chapter 12: cures of a collapse, over five seeds",
    "conditional": "Chapter 14: training speed, and a digit to order",
    "wgan": "Chapter 13: WGAN-GP",
    "diffusion": "Part V: likelihoods, network calls, a race on MNIST",
    "scoreboard": "Chapter 25: all families on one budget",
}
FILES = ("steps", "scale", "gpu", "quality", "laptop", "book", "operations", *CHAPTERS)
MISSING = "Not measured yet."
LINES = ("-", "--", ":", "-.")
MARKS = "osD^v<>ph*"
# Told apart with every kind of colour vision; the first is the book's own.
COLOURS = ("#12558f", "#d55e00", "#009e73", "#a0468a", "#6b6b6b", "#8a6d00")
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
NETWORKS = {
    "dense_gan": "dense GAN",
    "dcgan": "DCGAN",
    "conv_vae": "VAE",
    "unet": "U-Net of diffusion",
    "gpt": "GPT",
}
TITLES = {
    "dcgan": "book's DCGAN",
    "dense_gan": "book's dense GAN",
    "conv_vae": "book's VAE",
    "article_gan": "article's GAN (mended)",
    "tutorial_dcgan": "tutorial's DCGAN",
    "keras_vae": "Keras example's VAE",
    "plain_dcgan": "plain DCGAN",
}
# Models that differ from the book's DCGAN in one thing: a table is enough for them.
VARIANTS = tuple(
    f"{change}_dcgan"
    for change in ("shallow", "equal_rates", "dropout", "usual_adam", "wide_noise")
)
DISTANCE = "Frechet distance, lower is better"


def load() -> dict[str, dict]:
    """Read the result files that exist, by name."""
    paths = {name: RESULTS / f"{name}.json" for name in FILES}
    return {n: json.loads(p.read_text("utf-8")) for n, p in paths.items() if p.exists()}


def number(value: Any, digits: int = 3) -> str:
    """Write a value for people: numbers to three digits, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value == 0:
            return "0"
        text = f"{value:.{digits}g}"
        return f"{float(text):,.0f}" if abs(value) >= 100 else text
    if isinstance(value, (list, tuple)):
        return ", ".join(number(v) for v in value) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{words(k)} {number(v)}" for k, v in value.items()) or "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def words(key: Any) -> str:
    """Turn a key of a result file into words."""
    return str(key).replace("_", " ")


def title(name: str) -> str:
    """Return what a model is called on the page."""
    return TITLES.get(name, words(name))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a Markdown table; columns of numbers are aligned to the right."""
    rows = [list(row) for row in rows]
    right = [
        any(isinstance(row[i], (int, float)) for row in rows) for i in range(len(head))
    ]
    lines = [head, ["---:" if r else "---" for r in right]]
    lines += [[number(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def records(rows: Sequence[dict], skip: Sequence[str] = ()) -> str:
    """Write a list of flat records as a table, whatever their keys are."""
    keys = list(dict.fromkeys(k for row in rows for k in row if k not in skip))
    return table([words(k) for k in keys], ([row.get(k) for k in keys] for row in rows))


def leaves(value: Any, name: str = "") -> Iterable[tuple[str, Any]]:
    """List the single values of nested results, each with its path in words."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}, {words(key)}" if name else words(key))
    elif isinstance(value, list) and any(isinstance(x, (dict, list)) for x in value):
        for inner in value:
            yield "", inner
    else:
        yield name, value


def plain(value: Any, head: tuple[str, str]) -> str:
    """Write any results as one table: of records, or of names and values."""
    if isinstance(value, list) and value and all(isinstance(x, dict) for x in value):
        return records(value)
    if isinstance(value, list) and all(isinstance(x, str) for x in value):
        return "\n".join(f"- {x}" for x in value)
    return table(head, leaves(value)) if isinstance(value, dict) else number(value)


def machines(results: dict[str, dict]) -> str:
    """Describe the machine of each benchmark."""
    rows = []
    for name, result in results.items():
        if "machine" not in result:
            continue
        m = result["machine"]
        dates = result.get("dates", {}).values()
        versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
        card = f", {result['card']}" if "card" in result else ""
        rows.append(
            [f"`make bench-{name}`", f"{m['processor']}, {m['cores']} cores{card}"]
            + [number(m["vector_instructions"]), m["memory_gib"]]
            + [m["matrix_product_gflops"], f"Python {m['python']}, {versions}"]
            + [", ".join(sorted(set(dates))) or m["date"]]
        )
    head = ["benchmark", "processor", "vector instructions", "memory (GiB)"]
    head += ["matrix product (GFLOP/s)", "software", "date"]
    return table(head, rows) if rows else MISSING


def machine(results: dict[str, dict]) -> str:
    """Describe the machines of the charts in one line."""
    found = [results[n]["machine"] for n in ("steps", "quality") if n in results]
    if not found:
        return MISSING
    speeds = sorted(round(m["matrix_product_gflops"]) for m in found)
    speed = " to ".join(dict.fromkeys(map(str, (speeds[0], speeds[-1]))))
    cores = " or ".join(map(str, sorted({m["cores"] for m in found})))
    processor = found[0]["processor"].replace("(R)", "").removesuffix(" Processor")
    return (
        f"**Machine:** {cores} cores of {processor}, {speed} GFLOP/s; "
        f"Keras {found[0]['versions']['keras']}; {max(m['date'] for m in found)}."
    )


def steps(results: dict[str, dict]) -> str:
    """Training speed by network, backend and way of training."""
    if "steps" not in results:
        return MISSING
    found = results["steps"]
    head = [
        "network",
        "backend",
        "way",
        "pictures per second",
        "share of matrix product",
        "a call of fit (ms)",
    ]
    rows = [
        [r.get("network"), r.get("engine"), r.get("way"), r.get("images_per_second")]
        + [r.get("share_of_matrix_product"), r.get("call_ms")]
        for r in found.get("rows", [])
    ]
    text = [
        table(head, rows),
        "The share compares the arithmetic of the network in a second with that of a "
        "matrix product, measured at the start (the table of machines has a second "
        "measurement, at the end). A share of 1 would be perfect. The last column is "
        "what a call of `fit` costs beside its steps, as the difference of two times; "
        "a number below zero is noise. A ratio of two speeds in this table can differ "
        "from the ratio below it, which compares within a round.",
    ]
    if date := found.get("kept"):
        text.append(f"Networks that the last run left out: measured on {date}.")
    if found.get("ratios"):
        text += [
            "`fit` against the loop: the speeds of the two in the same round, divided; "
            "the median of the rounds:",
            plain(found["ratios"], ("what", "ratio")),
        ]
    if free := found.get("ratios_without_variables"):
        text += [
            "The same on PyTorch without the environment variables of "
            "[Set-up](setup.md) that keep freed memory:",
            plain(free, ("what", "ratio")),
        ]
    if parts := found.get("parts"):
        names = list(next(iter(parts.values())))
        rows = [[n, *(times.get(n) for times in parts.values())] for n in names]
        text += [
            "Parts of a step, in milliseconds (shapes of the DCGAN at batch 128; Adam "
            "on as many weights as the dense generator has; on PyTorch a gradient "
            "includes its forward pass):",
            table(["part", *parts], rows),
        ]
    return "\n\n".join(text)


def scale(results: dict[str, dict]) -> str:
    """How the measurements change with size, as they are in the file."""
    if "scale" not in results:
        return MISSING
    return "\n\n".join(parts(results["scale"]))


def parts(result: dict) -> list[str]:
    """Write whatever a result file holds, table after table."""
    text = []
    for key, value in result.items():
        if key not in ("machine", "dates"):
            text += [] if key == "rows" else [f"**{words(key).capitalize()}**"]
            text.append(plain(value, ("what", "value")))
    return text


def chapters(results: dict[str, dict]) -> str:
    """What single chapters are measured by, as it is in their files."""
    text = []
    for name, title_of in CHAPTERS.items():
        if name in results:
            write = board if name == "scoreboard" else parts
            text += [f"**{title_of}** (`make bench-{name}`)"]
            text += [*verdicts(results[name]), *write(results[name])]
    return "\n\n".join(text) if text else MISSING


def verdicts(result: dict) -> list[str]:
    """Say in a sentence each what came out of a race, where there was one."""
    ends = result.get("race_outcome", [])
    last = ends if ends and "seed" in ends[0] else ends[-1:]  # seeds, or marks of one
    text = []
    if last and all(end["share"] is not None for end in last):
        share = statistics.median(end["share"] for end in last)
        rival = [p for p in result["race"] if p["model"] not in ("book", "dcgan")]
        text.append(
            f"The book's model reached the distance that the example had after "
            f"{last[0]['rival']:.0f} s ({max(p['epochs'] for p in rival):.1f} epochs, "
            f"a small part of its training) in {number(100 * share)} % of that time."
        )
    elif last:
        text.append("The book's model did not reach the example's last distance.")
    if last and "dcgan_at_its_end" in last[0]:
        names = ("book_at_its_end", "dcgan_at_its_end")
        mine, gan = (statistics.median(end[n] for end in last) for n in names)
        took = [p["seconds"] for p in result["race"] if p["model"] == "dcgan"]
        text.append(
            f"After {max(took):.0f} s the diffusion model stands at {number(mine)} and "
            f"the book's DCGAN at {number(gan)} (medians over {len(last)} seeds): "
            f"{number(mine / gan)} times as far from the data."
        )
    return text


def board(result: dict) -> list[str]:
    """Write the scoreboard: the rules, and a row for each entrant, best first."""
    names = ("frechet", "kid", "precision", "recall", "density", "coverage", "copying")
    rows = []
    for entrant in result["entrants"].values():
        ends = [run["points"][-1] for run in entrant["runs"]]
        row: list[Any] = [entrant["label"]]
        for name in (*names, "bits"):
            found = [end[name] for end in ends if name in end]
            row.append(round(statistics.mean(found), 3) if found else None)
        took = statistics.mean(run["milliseconds"] for run in entrant["runs"])
        size = entrant["runs"][0]["parameters"]
        rows.append([*row, entrant["bits"], size, round(took, 3), entrant["calls"]])
    rules = (
        f"{result['samples']} samples of small digits against the test digits, after "
        f"{result['budget']:g} processor-seconds on one thread; means over "
        f"{result['seeds']} seeds. Real digits are compared half with half, so their "
        "distance is too large."
    )
    head = ["entrant", *names, "bits", "of", "parameters", "ms a sample", "calls"]
    return [rules, table(head, sorted(rows, key=lambda row: row[1]))]


def gpu(results: dict[str, dict]) -> str:
    """What a graphics card does, backend by backend, and what there was no time for."""
    if "gpu" not in results:
        return MISSING
    text = []
    for backend, found in results["gpu"]["backends"].items():
        products = found["product_gflops"]
        speeds = (f"{number(v / 1e3)} in {k}" for k, v in products.items())
        text.append(
            f"**{found['software']} on {found['device']}**, which multiplies matrices "
            f"of {number(found['product_size'])} rows with {', '.join(speeds)}, in "
            "TFLOP/s."
        )
        if tests := found.get("tests"):
            counts = ", ".join(
                f"{tests[k]} {k}" for k in ("passed", "failed", "skipped")
            )
            cut = tests.get("incomplete")
            text.append(
                f"The tests of the models: {counts}"
                + (f" (incomplete: {cut})." if cut else ".")
            )
            if tests["failures"]:
                text.append(plain(tests["failures"], ("", "")))
        if backend == "torch":
            text.append(
                "By default PyTorch rounds float32 to fewer digits (TF32) in "
                "convolutions, not in matrix products, so a share can exceed 1 there."
            )
        keys = {
            "network": "network",
            "size": "size",
            "precision": "precision",
            "way": "way",
            "images_per_second": "images a second",
            "against_loop": "against the loop",
            "share_of_matrix_product": "share of matrix product",
            "peak_mb": "peak memory (MB)",
        }
        if rows := found["speed"]:
            cells = ([row.get(key) for key in keys] for row in rows)
            text.append(table([*keys.values()], cells))
        if rows := found["batches"]:
            text += ["Batch size against speed:", records(rows)]
        lost = found["dropped"] + [f"{r['what']}: {r['why']}" for r in found["failed"]]
        text += ["Not measured:", plain(lost, ("", ""))] if lost else []
    return "\n\n".join(text)


def curves(quality: dict) -> dict[str, list[list[dict]]]:
    """For each model, for each seed, the points that have a Frechet distance."""
    found = {
        name: [
            [p for p in run["points"] if p.get("frechet") is not None]
            for run in model["seeds"]
        ]
        for name, model in quality.get("models", {}).items()
    }
    return {name: runs for name, runs in found.items() if any(runs)}


def floor_of(quality: dict) -> float | None:
    """Return the Frechet distance between two sets of real pictures, if it is there."""
    floor = quality.get("floor")
    return floor.get("frechet") if isinstance(floor, dict) else floor


def description(quality: dict) -> str:
    """Say in one paragraph what the figure shows, from the points themselves."""
    minute, ends = [], []
    for name in headliners(quality):
        model = quality["models"][name]
        early = at(model, 60, "frechet")
        if early is not None:
            minute.append(f"{title(name)} {number(early)}")
        time, value = last(model, "frechet")
        if early is None or time > 70:
            ends.append(f"{title(name)} {number(value)} after {number(time)} seconds")
    text = "Frechet distance against seconds of training, medians over the seeds."
    if minute:
        text += f" After 60 seconds: {', '.join(minute)}."
    text += f" At the end: {', '.join(ends)}." if ends else ""
    if (floor := floor_of(quality)) is not None:
        text += f" A grey line marks the floor at {number(float(floor))}."
    return text


def each(model: dict, seconds: float, key: str) -> list:
    """Return for each seed the first value from some second on, or None."""
    return [
        next((p[key] for p in run["points"] if p["seconds"] >= seconds), None)
        for run in model["seeds"]
    ]


def at(model: dict, seconds: float, key: str) -> float | None:
    """Return the median over seeds of the first value from some second on."""
    found = each(model, seconds, key)
    return None if None in found or not found else float(statistics.median(found))


def median_of_ends(model: dict, key: str) -> float:
    """Return the median over seeds of a value of the last points."""
    return float(statistics.median(run["points"][-1][key] for run in model["seeds"]))


def last(model: dict, key: str) -> tuple[float, float]:
    """Return the medians over seeds of the last points: seconds and value."""
    return median_of_ends(model, "seconds"), median_of_ends(model, key)


def contest(found: dict) -> list[str]:
    """Say how the book's models stand beside their rivals, as far as both were run."""
    models, floor, lines = found.get("models", {}), floor_of(found), []
    ours = models.get("dcgan")
    if ours and (early := at(ours, 60, "frechet")) is not None:
        ends = []
        for rival in ("tutorial_dcgan", "article_gan"):
            if rival in models:
                time, value = last(models[rival], "frechet")
                ends.append(
                    f"the {title(rival)} is at {number(value)} after "
                    f"{number(time)} seconds"
                )
        if ends:
            lines.append(
                f"After 60 seconds the book's DCGAN is at a distance of "
                f"{number(early)}. Where they were stopped, {'; '.join(ends)}."
            )
    if ours and floor and (late := at(ours, 120, "frechet")) is not None:
        lines.append(
            f"After 120 seconds the book's DCGAN is at {number(late)}, "
            f"{late / floor:.1f} times the floor."
        )
    if "conv_vae" in models and "keras_vae" in models:
        time, goal = last(models["keras_vae"], "elbo")
        soon = [
            next((p["seconds"] for p in run["points"] if p["elbo"] >= goal), None)
            for run in models["conv_vae"]["seeds"]
        ]
        if None not in soon:
            lines.append(
                f"The Keras example's network reaches an ELBO of {goal:.1f} nats after "
                f"{number(time)} seconds, its last point; the book's VAE is past that "
                f"after {statistics.median(soon):.0f} seconds, or before."
            )
    return lines


def variants(found: dict) -> str:
    """Say what each change of the book's DCGAN does to its distance, seed by seed."""
    rows = {
        words(name): number(each(model, 60, "frechet"))
        for name, model in found.get("models", {}).items()
        if name in ("dcgan", *VARIANTS)
    }
    parts = "; ".join(f"{name} {values}" for name, values in rows.items())
    return f"After 60 seconds, seed by seed: {parts}." if len(rows) > 1 else ""


def laptop(results: dict[str, dict]) -> str:
    """The medians of the slow laptop's contest at its marks."""
    if "laptop" not in results:
        return MISSING
    found = results["laptop"]["models"]
    marks = [p["laptop_seconds"] for p in found["dcgan"]["seeds"][0]["points"]]
    rows = []
    for i, mark in enumerate(marks):
        row: list[Any] = [round(mark)]
        for model in found.values():
            points = [run["points"][i] for run in model["seeds"]]
            row.append(float(statistics.median(p["frechet"] for p in points)))
            row.append(float(statistics.median(p["teraflop"] for p in points)))
        rows.append(row)
    head = ["seconds at 100 GFLOP/s"]
    for name in found:
        head += [f"{words(name)}: Frechet distance", "operations (10^12)"]
    settings = [f"{words(name)}: {model['settings']}" for name, model in found.items()]
    return "\n\n".join([table(head, rows), plain(settings, ("", ""))])


def quality(results: dict[str, dict]) -> str:
    """A table of the last points, and what is said about them."""
    if "quality" not in results:
        return MISSING
    found = results["quality"]
    text, rows = [], []
    keys = ("seconds", "steps", "frechet", "precision", "recall", "classes", "elbo")
    for name, model in found.get("models", {}).items():
        ends = [run["points"][-1] for run in model["seeds"] if run["points"]]
        row: list[Any] = [words(name), len(ends)]
        for key in keys:
            values = [p[key] for p in ends if p.get(key) is not None]
            row.append(float(statistics.median(values)) if values else None)
        rows.append(row)
    shown = [i for i in range(len(keys) + 2) if any(row[i] is not None for row in rows)]
    names = ["model", "seeds", "seconds", "steps", "Frechet distance"]
    names += ["precision", "recall", "classes", "ELBO (nats)"]
    text.append("Where the training ends (medians over the seeds):")
    text.append(table([names[i] for i in shown], ([r[i] for i in shown] for r in rows)))
    if (floor := floor_of(found)) is not None:
        near = found.get("floor_precision_recall")
        text.append(
            f"Floor, between two sets of real pictures: {number(float(floor))}."
            + (f" Their precision and recall: {number(near)}." if near else "")
        )
    if lines := variants(found):
        text.append(lines)
    if rows := found.get("small_digits"):
        text.append(
            "Chapter 11's DCGAN on the small digits, with two widths of the noise and "
            "two pairs of betas for Adam: the median, the least and the largest "
            "Frechet distance over four seeds. The judge is another one, so do not "
            "compare with the distances above."
        )
        text.append(plain(rows, ("", "")))
    if found.get("not_run"):
        text.append("Not run:\n\n" + plain(found["not_run"], ("", "")))
    return "\n\n".join(text)


def notebooks(results: dict[str, dict]) -> str:
    """What each notebook costs."""
    rows = results.get("book", {}).get("notebooks")
    if not rows:
        return MISSING
    budgets = limits.read()
    lines = []
    for r in rows:
        gflops = limits.speed(results["book"], "notebooks", r)
        most = limits.allowed("notebooks", r["name"], budgets)
        most = limits.scaled(most, budgets, gflops)
        inside = r["passed"] and all(r[k] <= v for k, v in most.items())
        lines.append(
            [f"[{r['name']}](../notebooks/{r['name']}.ipynb)", r["seconds"], r["gb"]]
            + [f"{most['seconds']:.0f} s, {most['gb']:g} GB"]
            + ["yes" if inside else "no", r["cells"], r["code_cells"], r["kb"]]
        )
    head = ["notebook", "seconds", "memory (GB)", "budget", "within", "cells"]
    text = table(head + ["code cells", "size (kB)"], lines)
    return f"{text}\n\n{where(results)} {yardstick(results, 'notebooks')}"


def where(results: dict[str, dict]) -> str:
    """Say on what machine the book was measured."""
    m = results["book"]["machine"]
    return (
        f"Measured on {m['cores']} cores of a processor that calls itself "
        f"{m['processor']}, with {number(m['memory_gib'])} GiB of memory."
    )


def yardstick(results: dict[str, dict], *parts: str) -> str:
    """Say how fast the machine was, and what that makes of the budgets."""
    book = results["book"]
    found = [limits.speed(book, part, r) for part in parts for r in book[part]]
    ends = sorted({round(min(found)), round(max(found))})
    return (
        f"Beside this the machine multiplied matrices at "
        f"{' to '.join(map(str, ends))} GFLOP/s; the budgets are made for "
        f"{limits.read()['gflops']} GFLOP/s and scaled to that."
    )


def rest(results: dict[str, dict]) -> str:
    """What the site, the imports and the tests cost."""
    found = results.get("book", {})
    budgets = limits.read()
    lines, text = [], []
    for part in ("site", "imports"):
        for r in found.get(part, []):
            most = limits.allowed(part, r["name"], budgets)
            most = limits.scaled(most, budgets, limits.speed(found, part))["seconds"]
            inside = r.get("passed", True) and r["seconds"] <= most
            inside = inside and not r.get("keras")
            name = f"`{r['name']}`" if part != "site" else f"site, {r['name']}"
            name = f"import {name}" if part == "imports" else name
            lines.append(
                [name, r["seconds"], round(most, 2), "yes" if inside else "no"]
            )
    if lines:
        text.append(table(["what", "seconds", "budget", "within"], lines))
    if rows := found.get("tests"):
        text += tests(rows, limits.speed(found, "tests"), budgets)
    measured = [part for part in limits.PARTS[1:] if part in found]
    text += [yardstick(results, *measured)] if measured else []
    gone = [part for part in limits.PARTS[1:] if part not in found]
    return "\n\n".join(text + [f"Not measured yet: {', '.join(gone)}."] * bool(gone))


def tests(rows: list[dict], gflops: float, budgets: dict) -> list[str]:
    """What the parts of ``make test`` cost."""
    lines = []
    for row in limits.with_total(rows):
        most = limits.allowed("tests", row["name"], budgets)
        most = limits.scaled(most, budgets, gflops)["seconds"]
        inside = row["passed"] and row["seconds"] <= most
        shown = row["name"] if row["name"] == limits.WHOLE else f"make {row['name']}"
        lines.append([f"`{shown}`", row["seconds"], most, "yes" if inside else "no"])
    return [table(["what", "seconds", "budget", "within"], lines)]


@dataclass(frozen=True)
class Chart:
    """One chart of the page: how it is drawn, and what is said about it."""

    name: str
    draw: Callable[[Any, dict[str, dict]], None]  # axes, results
    there: Callable[[dict[str, dict]], bool]
    alt: Callable[[dict[str, dict]], str]
    caption: str


def headliners(quality: dict) -> dict[str, list[list[dict]]]:
    """The curves that a chart has room for: not those of the DCGAN's variants."""
    return {
        name: runs for name, runs in curves(quality).items() if name not in VARIANTS
    }


def lines(
    ax: Any, models: dict[str, list[list[dict]]], x: Callable, y: str, label: str
) -> None:
    """Draw one line for each seed; mark, dash and colour tell the models apart.

    Args:
        ax: The axes.
        models: For each model, for each seed, its points.
        x: Maps a model's name and a point to its place.
        y: Key of the value.
        label: What the horizontal axis shows.
    """
    for i, (name, runs) in enumerate(models.items()):
        for j, run in enumerate(r for r in runs if r):
            ax.semilogx(
                [x(name, p) for p in run],
                [p[y] for p in run],
                LINES[i % len(LINES)] + MARKS[i % len(MARKS)],
                color=COLOURS[i % len(COLOURS)],
                markersize=5,
                linewidth=1.4,
                label=None if j else title(name),
            )
    ax.set_xlabel(label)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(alpha=0.3)


def distance(ax: Any, quality: dict) -> None:
    """Finish the axes of a chart of distances: logarithmic, with the floor."""
    if (floor := floor_of(quality)) is not None:
        ax.axhline(floor, color="0.4", linewidth=1, label="real against real")
    ax.set_yscale("log")
    ax.set_ylabel(DISTANCE)
    ax.yaxis.set_major_formatter("{x:g}")


def draw_seconds(ax: Any, results: dict[str, dict]) -> None:
    """Draw distance against seconds."""
    found = results["quality"]
    models = headliners(found)
    lines(ax, models, lambda name, p: p["seconds"], "frechet", "seconds of training")
    distance(ax, found)


def counted(results: dict[str, dict]) -> dict[str, list[list[dict]]]:
    """The curves of the models whose operations are known."""
    known = results.get("operations", {})
    models = headliners(results.get("quality", {}))
    return {name: runs for name, runs in models.items() if name in known}


def draw_compute(ax: Any, results: dict[str, dict]) -> None:
    """Draw distance against operations, in units of 10^12."""
    step = results["operations"]
    lines(
        ax,
        counted(results),
        lambda name, p: 1e-12 * step[name] * p["steps"],
        "frechet",
        "operations of training (10^12)",
    )
    distance(ax, results["quality"])


def bounds(results: dict[str, dict]) -> dict[str, list[list[dict]]]:
    """The curves of the models that have an ELBO."""
    models = results.get("quality", {}).get("models", {})
    runs = {n: [run["points"] for run in m["seeds"]] for n, m in models.items()}
    return {
        name: seeds
        for name, seeds in runs.items()
        if all(p.get("elbo") is not None for run in seeds for p in run)
    }


def draw_elbo(ax: Any, results: dict[str, dict]) -> None:
    """Draw the ELBO against seconds."""
    seconds = "seconds of training"
    lines(ax, bounds(results), lambda name, p: p["seconds"], "elbo", seconds)
    ax.set_ylabel("ELBO (nats), higher is better")


def pairs(results: dict[str, dict]) -> list[tuple[str, float, float]]:
    """Speeds of `fit` and of the loop, with the name of network and backend."""
    speeds: dict[tuple[str, str], dict[str, float]] = {}
    for r in results.get("steps", {}).get("rows", []):
        key = (r["network"], r["engine"])
        speeds.setdefault(key, {})[r["way"]] = r["images_per_second"]
    return [
        (f"{NETWORKS.get(network, network)}, {BACKENDS.get(engine, engine)}",)
        + (v["fit"], v["loop"])
        for (network, engine), v in speeds.items()
        if {"fit", "loop"} <= v.keys()
    ]


def draw_speed(ax: Any, results: dict[str, dict]) -> None:
    """Draw the speed of `fit` and of the loop, a row for each network and backend."""
    found = pairs(results)[::-1]
    rows = range(len(found))
    ax.plot(
        [p[2] for p in found], rows, "s", ms=11, mfc="none", mec="0.35", label="loop"
    )
    ax.plot([p[1] for p in found], rows, "o", ms=6, color=COLOURS[0], label="fit")
    ax.set_xscale("log")
    ax.set_yticks(rows, [p[0] for p in found])
    ax.set_xlabel("images a second, more is better")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.grid(alpha=0.3, which="both", axis="x")
    low, high = min(min(p[1:]) for p in found), max(max(p[1:]) for p in found)
    ax.set_xlim(low / 1.5, high * 1.5)


def speed_words(results: dict[str, dict]) -> str:
    """Say what the chart of speeds shows."""
    said = "; ".join(
        f"{name}: fit {number(float(a))}, loop {number(float(b))}"
        for name, a, b in pairs(results)
    )
    return f"Images a second with fit and with a loop written by hand. {said}."


def compute_words(results: dict[str, dict]) -> str:
    """Say where the lines of the chart of operations end."""
    ends = []
    for name in counted(results):
        model = results["quality"]["models"][name]
        steps, value = (median_of_ends(model, key) for key in ("steps", "frechet"))
        done = 1e-12 * results["operations"][name] * steps
        ends.append(f"{title(name)} {number(value)} after {number(done)}")
    return (
        "Frechet distance against millions of millions of operations. At the end: "
        f"{', '.join(ends)}."
    )


def elbo_words(results: dict[str, dict]) -> str:
    """Say where the lines of the chart of bounds end."""
    models = results["quality"]["models"]
    ends = []
    for name in bounds(results):
        time, value = last(models[name], "elbo")
        ends.append(f"{title(name)} {number(value)} after {number(time)} seconds")
    return f"ELBO against seconds of training. At the end: {', '.join(ends)}."


def laptop_points(results: dict[str, dict]) -> dict[str, list[list[dict]]]:
    """The curves of the contest on a slow laptop."""
    models = results.get("laptop", {}).get("models", {})
    return {n: [run["points"] for run in m["seeds"]] for n, m in models.items()}


def draw_laptop(key: str, label: str) -> Callable[[Any, dict[str, dict]], None]:
    """Return what draws the contest on a slow laptop along one axis."""

    def draw(ax: Any, results: dict[str, dict]) -> None:
        lines(ax, laptop_points(results), lambda n, p: p[key], "frechet", label)
        distance(ax, {})

    return draw


def laptop_words(results: dict[str, dict]) -> str:
    """Say where the lines of the contest on a slow laptop end."""
    ends = [
        f"{title(name)} {number(last(model, 'frechet')[1])}"
        for name, model in results["laptop"]["models"].items()
    ]
    return f"Frechet distance of two DCGANs on MNIST. At the end: {', '.join(ends)}."


def has_laptop(results: dict[str, dict]) -> bool:
    """Whether the contest on a slow laptop was run."""
    return any(laptop_points(results).values())


CHARTS = (
    Chart(
        "quality",
        draw_seconds,
        lambda r: bool(headliners(r.get("quality", {}))),
        lambda r: description(r["quality"]),
        "How far drawn digits are from real ones, **against seconds** of training. "
        "Each line is one seed; the grey line is the distance between two sets of "
        "real images.",
    ),
    Chart(
        "compute",
        draw_compute,
        lambda r: bool(counted(r)),
        compute_words,
        "The same **against operations**: what is left of the lead when the speed of "
        "a machine plays no part.",
    ),
    Chart(
        "speed",
        draw_speed,
        lambda r: bool(pairs(r)),
        speed_words,
        "**`fit` against a loop** written by hand. Where the circle lies in the "
        "square, `fit` costs nothing.",
    ),
    Chart(
        "elbo",
        draw_elbo,
        lambda r: bool(bounds(r)),
        elbo_words,
        "The bound on the log-likelihood of test images, for the two variational "
        "autoencoders.",
    ),
    Chart(
        "laptop",
        draw_laptop("laptop_seconds", "seconds at 100 GFLOP/s"),
        has_laptop,
        laptop_words,
        "Two DCGANs **on a slow laptop**: the distance against its seconds.",
    ),
    Chart(
        "laptop-compute",
        draw_laptop("teraflop", "operations of training (10^12)"),
        has_laptop,
        laptop_words,
        "The same two against operations.",
    ),
)


def charts(results: dict[str, dict]) -> str:
    """The charts that there are results for, side by side where there is room."""
    shown = [chart for chart in CHARTS if chart.there(results)]
    if not shown:
        return MISSING
    items = [
        f":::{{grid-item}}\n```{{figure}} figures/{chart.name}.svg\n:alt: "
        f"{chart.alt(results)}\n:width: 100%\n\n{chart.caption}\n```\n:::"
        for chart in shown
    ]
    return "\n\n".join(["::::{grid} 1 1 2 2\n:gutter: 3", *items, "::::"])


def findings(results: dict[str, dict]) -> str:
    """What the charts show, in sentences that are made from the same numbers."""
    said = contest(results.get("quality", {}))
    if ratios := results.get("steps", {}).get("ratios"):
        low, high = min(ratios.values()), max(ratios.values())
        middle = statistics.median(ratios.values())
        said.append(
            f"`fit` runs at {low:.2f} to {high:.2f} times the speed of the loop "
            f"written by hand, {middle:.2f} in the median of {len(ratios)} pairs."
        )
    best: dict[str, tuple[float, str]] = {}
    for name, fit, _ in pairs(results):
        network, backend = name.split(", ")
        best[network] = max(best.get(network, (0.0, "")), (fit, backend))
    if best:
        fastest = ", ".join(
            f"{backend} for the {n}" for n, (_, backend) in best.items()
        )
        said.append(f"With `fit`, the fastest backend is {fastest}.")
    return plain(said, ("", "")) if said else MISSING


BLOCKS: dict[str, Callable[[dict[str, dict]], str]] = {
    "machine": machine,
    "charts": charts,
    "findings": findings,
    "machines": machines,
    "steps": steps,
    "scale": scale,
    "gpu": gpu,
    "chapters": chapters,
    "quality": quality,
    "laptop": laptop,
    "notebooks": notebooks,
    "rest": rest,
}


#: What stands folded, below the charts.
FOLDED = ("quality", "laptop", "steps", "scale", "gpu", "chapters", "machines")


def filled(text: str, results: dict[str, dict]) -> str:
    """Replace what stands between the marks of a page by what is measured."""

    def block(match: re.Match) -> str:
        name = match[1]
        body = BLOCKS[name](results)
        return f"<!-- begin {name} -->\n\n{body}\n\n<!-- end {name} -->"

    return re.sub(r"<!-- begin (\w+) -->.*?<!-- end \1 -->", block, text, flags=re.S)


def draw(results: dict[str, dict], folder: Path) -> None:
    """Draw the charts that there are results for, readable at 340 pixels."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    folder.mkdir(exist_ok=True)
    style = {"svg.hashsalt": "book", "font.size": 11}  # the same bytes each time
    with mpl.rc_context(style):
        for chart in CHARTS:
            if not chart.there(results):
                continue
            figure, ax = plt.subplots(figsize=(4.6, 4.4), layout="constrained")
            chart.draw(ax, results)
            figure.legend(loc="outside lower center", ncols=2, fontsize=10)
            path = folder / f"{chart.name}.svg"
            figure.savefig(path, metadata={"Date": None})
            plt.close(figure)


def operations(names: Iterable[str]) -> dict[str, float]:
    """Count the operations of a training step of each model (imports Keras)."""
    from benchmarks.quality import RUNS
    from benchmarks.steps import round_flops

    return {
        name: RUNS[name].batch * round_flops(RUNS[name].make(0))
        for name in names
        if name in RUNS
    }


def main() -> None:
    """Write both pages and the charts."""
    results = load()
    models = results.get("quality", {}).get("models", {})
    if set(models) - set(results.get("operations", {})):
        results["operations"] = operations(models)
        text = json.dumps(results["operations"], indent=1) + "\n"
        (RESULTS / "operations.json").write_text(text, encoding="utf-8")
    draw(results, FIGURES)
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8"), results), encoding="utf-8")
        print(page)


if __name__ == "__main__":
    main()
