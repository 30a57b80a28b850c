"""Write the pages of results from the JSON files in ``results/``.

``book/status.md`` and ``book/benchmarks.md`` are ordinary pages; what stands between
``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced by what is measured.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import budgets as limits
from benchmarks.common import RESULTS

BOOK = Path(__file__).parent.parent / "book"
PAGES = (BOOK / "status.md", BOOK / "benchmarks.md")
FIGURE = BOOK / "figures" / "quality.svg"
LAPTOP = BOOK / "figures" / "laptop.svg"
FILES = ("steps", "scale", "gpu", "quality", "laptop", "book")
MISSING = "Not measured yet."
LINES = ("-", "--", ":", "-.")
MARKS = "osD^v<>ph*"


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
    if found.get("ratios"):
        text += [
            "`fit` against the loop: the speeds of the two in the same round, divided; "
            "the median of the rounds:",
            plain(found["ratios"], ("what", "ratio")),
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
    text = []
    for key, value in results["scale"].items():
        if key != "machine":
            text += [] if key == "rows" else [f"**{words(key).capitalize()}**"]
            text.append(plain(value, ("what", "value")))
    return "\n\n".join(text)


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
    for name in curves(quality):
        model = quality["models"][name]
        early = at(model, 60, "frechet")
        if early is not None:
            minute.append(f"{words(name)} {number(early)}")
        time, value = last(model, "frechet")
        if early is None or time > 70:
            ends.append(f"{words(name)} {number(value)} after {number(time)} seconds")
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


def last(model: dict, key: str) -> tuple[float, float]:
    """Return the medians over seeds of the last points: seconds and value."""
    ends = [run["points"][-1] for run in model["seeds"]]
    times, values = ([p[k] for p in ends] for k in ("seconds", key))
    return float(statistics.median(times)), float(statistics.median(values))


def contest(found: dict) -> list[str]:
    """Say how the book's models stand beside their rivals, as far as both were run."""
    models, floor, lines = found.get("models", {}), floor_of(found), []
    ours = models.get("dcgan")
    if ours and (early := at(ours, 60, "frechet")) is not None:
        for rival in ("tutorial_dcgan", "article_gan"):
            if rival in models:
                time, value = last(models[rival], "frechet")
                lines.append(
                    f"After 60 seconds the book's DCGAN is at {number(early)}; "
                    f"{words(rival)} is at {number(value)} after {number(time)} "
                    "seconds, the last that were run."
                )
    if ours and floor and (late := at(ours, 120, "frechet")) is not None:
        lines.append(
            f"After 120 seconds the book's DCGAN is at {number(late)}, "
            f"{late / floor:.1f} times the floor."
        )
    variants = {
        words(name): number(each(model, 60, "frechet"))
        for name, model in models.items()
        if name.endswith("dcgan") and name != "tutorial_dcgan"
    }
    if len(variants) > 1:
        parts = "; ".join(f"{name} {values}" for name, values in variants.items())
        lines.append(f"After 60 seconds, seed by seed: {parts}.")
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


def laptop(results: dict[str, dict]) -> str:
    """The figure of the slow laptop's contest, and the medians at its marks."""
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
    says = "; ".join(
        f"after {r[0]} seconds {number(r[1])} against {number(r[3])}" for r in rows
    )
    figure = (
        f"```{{figure}} figures/{LAPTOP.name}\n:alt: Two panels, Frechet distance "
        "against seconds and against operations, on logarithmic axes: the book's DCGAN "
        f"lies below the plain one; {says}.\n:width: 100%\n\nTwo DCGANs on MNIST: "
        "distance to the test images against seconds of a machine with 100 GFLOP/s, "
        "and against the operations done. Each line is one seed; lower is better.\n```"
    )
    settings = [f"{words(name)}: {model['settings']}" for name, model in found.items()]
    return "\n\n".join([figure, table(head, rows), plain(settings, ("", ""))])


def draw_laptop(found: dict, path: Path) -> None:
    """Draw the distance on both axes, a style for each model."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "book", "font.size": 10}):
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
        names = {"laptop_seconds": "seconds at 100 GFLOP/s", "teraflop": "10^12 FLOP"}
        for ax, (key, label) in zip(axes, names.items(), strict=True):
            for i, (name, model) in enumerate(found["models"].items()):
                for j, run in enumerate(model["seeds"]):
                    ax.loglog(
                        [p[key] for p in run["points"]],
                        [p["frechet"] for p in run["points"]],
                        LINES[i] + MARKS[i],
                        color=f"C{i}",
                        markersize=4,
                        label=None if j else words(name),
                    )
            ax.set(xlabel=label, ylabel="Frechet distance (judge features)")
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter("{x:g}")
            ax.tick_params(which="minor", labelsize=7)
        axes[0].legend(fontsize=9)
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def quality(results: dict[str, dict]) -> str:
    """The figure of quality against seconds, and a table of the last points."""
    if "quality" not in results:
        return MISSING
    found = results["quality"]
    text, rows = [], []
    if curves(found):
        text.append(
            f"```{{figure}} figures/{FIGURE.name}\n:alt: {description(found)}\n"
            ":width: 100%\n\nFrechet distance in judge features against seconds of "
            "training. Each model has a mark and a colour of its own; each line is one "
            "seed. Lower is better.\n```"
        )
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
    if lines := contest(found):
        text.append(plain(lines, ("", "")))
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
    gflops = limits.speed(results["book"], "notebooks")
    lines = []
    for r in rows:
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
    found = sorted({round(limits.speed(results["book"], part)) for part in parts})
    return (
        f"Beside this the machine multiplied matrices at "
        f"{' to '.join(map(str, found))} GFLOP/s; the budgets are made for "
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
    """What the parts of ``make test`` cost now, and in a book of all chapters."""
    later = {r["name"]: r["seconds"] for r in limits.grown(rows, budgets)}
    now = {r["name"]: r for r in rows}
    if limits.WHOLE in later:
        total = round(sum(r["seconds"] for r in rows), 1)
        passed = all(r["passed"] for r in rows)
        now[limits.WHOLE] = {"seconds": total, "passed": passed}
    lines = []
    for name, row in now.items():
        most = limits.scaled(limits.allowed("tests", name, budgets), budgets, gflops)
        then = later.get(name)
        inside = row["passed"] and then is not None and then <= most["seconds"]
        verdict = "–" if then is None else "yes" if inside else "no"
        shown = name if name == limits.WHOLE else f"make {name}"
        lines.append([f"`{shown}`", row["seconds"], then, most["seconds"], verdict])
    chapters = budgets["chapters"]
    head = ["what", "seconds", f"seconds at {chapters} chapters", "budget", "within"]
    return [
        f"The tests, and what they will take when all {chapters} chapters stand. The "
        "notebooks and the pages of the site are taken to cost as much each as today, "
        "which is a little too much. The budget is that of the finished book.",
        table(head, lines),
    ]


BLOCKS: dict[str, Callable[[dict[str, dict]], str]] = {
    "machines": machines,
    "steps": steps,
    "scale": scale,
    "gpu": gpu,
    "quality": quality,
    "laptop": laptop,
    "notebooks": notebooks,
    "rest": rest,
}


def filled(text: str, results: dict[str, dict]) -> str:
    """Replace what stands between the marks of a page by what is measured."""

    def block(match: re.Match) -> str:
        name = match[1]
        body = BLOCKS[name](results)
        return f"<!-- begin {name} -->\n\n{body}\n\n<!-- end {name} -->"

    return re.sub(r"<!-- begin (\w+) -->.*?<!-- end \1 -->", block, text, flags=re.S)


def draw(quality: dict, path: Path) -> None:
    """Draw Frechet distance against seconds; style and mark tell the models apart."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    style = {"svg.hashsalt": "book", "font.size": 10}  # the same bytes each time
    with mpl.rc_context(style):
        figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
        for i, (name, runs) in enumerate(curves(quality).items()):
            for j, run in enumerate(r for r in runs if r):
                ax.loglog(
                    [p["seconds"] for p in run],
                    [p["frechet"] for p in run],
                    LINES[i % len(LINES)] + MARKS[i % len(MARKS)],
                    color=f"C{i}",
                    markersize=4,
                    linewidth=1.2,
                    label=None if j else words(name),
                )
        floor = floor_of(quality)
        if floor is not None:
            ax.axhline(floor, color="0.5", linewidth=1, label="floor: real pictures")
        ax.set_xlabel("seconds of training")
        ax.set_ylabel("Frechet distance (judge features)")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter("{x:g}")
        ax.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.08))
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    """Write both pages and the figure."""
    results = load()
    if curves(results.get("quality", {})):
        draw(results["quality"], FIGURE)
    if "laptop" in results:
        draw_laptop(results["laptop"], LAPTOP)
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8"), results), encoding="utf-8")
        print(page)


if __name__ == "__main__":
    main()
