"""The pages of results say what the files say; budgets are enforced."""

from __future__ import annotations

import sys

import pytest

from benchmarks import book, budgets, page

MACHINE = {
    "processor": "abacus",
    "cores": 2,
    "vector_instructions": [],
    "memory_gib": 4.0,
    "matrix_product_gflops": 10.0,
    "python": "3.12.0",
    "versions": {"keras": "3.15.1"},
    "date": "2026-01-01",
}
POINTS = [
    {"seconds": s, "steps": 10 * s, "frechet": 100.0 / s, "precision": 0.5}
    for s in (1, 10, 50)
]
QUALITY = {
    "machine": MACHINE,
    "floor": 1.5,
    "models": {
        "dcgan": {"settings": {}, "seeds": [{"seed": 0, "points": POINTS}]},
        "conv_vae": {
            "settings": {},
            "seeds": [{"seed": 0, "points": [{"seconds": 3.0, "elbo": -7.0}]}],
        },
    },
    "small_digits": [{"noise": 7, "beta_1": 0.5, "frechet": 0.25}],
    "not_run": ["a GPU"],
}
BUDGETS = budgets.read()


@pytest.mark.parametrize("path", page.PAGES, ids=lambda p: p.name)
def test_committed_pages_agree_with_committed_results(path):
    text = path.read_text("utf-8")
    assert page.filled(text, page.load()) == text, "run: make bench-pages"


def test_pages_hold_every_block_once():
    text = "".join(path.read_text("utf-8") for path in page.PAGES)
    for name in page.BLOCKS:
        assert text.count(f"<!-- begin {name} -->") == 1
        assert text.count(f"<!-- end {name} -->") == 1


@pytest.mark.parametrize("name", page.BLOCKS)
def test_what_is_missing_is_said(name):
    text = page.filled(f"<!-- begin {name} --><!-- end {name} -->", {})
    assert "ot measured yet" in text


def test_quality_is_described_and_drawn(tmp_path):
    text = page.charts({"quality": QUALITY})
    assert "At the end: book's DCGAN 2 after 50 seconds. A grey line" in text
    assert text.count("{figure}") == 2 and "against operations" not in text
    text = page.quality({"quality": QUALITY})
    assert "| conv vae | 1 | 3 |" in text
    assert "-7" in text and "- a GPU" in text
    assert "| noise | beta 1 | frechet |" in text and "| 7 | 0.5 | 0.25 |" in text
    page.draw({"quality": QUALITY}, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"quality.svg", "elbo.svg"}
    assert "<svg" in (tmp_path / "quality.svg").read_text("utf-8")


def test_charts_come_before_tables_and_every_table_is_folded():
    text = (page.BOOK / "benchmarks.md").read_text("utf-8")
    marks = [text.index(f"<!-- begin {name} -->") for name in ("machine", "charts")]
    tables = [text.index(f"<!-- begin {name} -->") for name in page.FOLDED]
    assert marks == sorted(marks) and max(marks) < min(tables)
    for start in tables:
        assert text.rfind("\n:::{dropdown}", 0, start) > text.rfind("\n:::\n", 0, start)


def test_operations_make_a_second_axis(tmp_path):
    results = {"quality": QUALITY, "operations": {"dcgan": 2e12}}
    text = page.charts(results)
    assert "At the end: book's DCGAN 2 after 1,000." in text  # 500 steps
    page.draw(results, tmp_path)
    assert (tmp_path / "compute.svg").exists()


def test_fit_and_loop_are_compared_from_the_rows():
    rows = [
        {"network": n, "engine": e, "way": w, "images_per_second": v}
        for n, e, w, v in [
            ("dcgan", "jax", "fit", 10.0),
            ("dcgan", "jax", "loop", 20.0),
            ("dcgan", "torch", "fit", 15.0),
            ("dcgan", "torch", "loop", 15.0),
            ("dcgan", "tensorflow", "loop", 99.0),  # no fit: not in the chart
        ]
    ]
    results = {"steps": {"rows": rows, "ratios": {"a": 0.5, "b": 1.0, "c": 0.9}}}
    assert page.pairs(results) == [
        ("DCGAN, JAX", 10.0, 20.0),
        ("DCGAN, PyTorch", 15.0, 15.0),
    ]
    text = page.findings(results)
    assert "0.50 to 1.00 times" in text and "0.90 in the median of 3 pairs" in text
    assert "the fastest backend is PyTorch for the DCGAN." in text


def test_the_machine_is_one_line():
    text = page.machine(
        {"steps": {"machine": MACHINE}, "quality": {"machine": MACHINE}}
    )
    assert "\n" not in text and "2 cores" in text and "10 GFLOP/s" in text


def test_the_slow_laptop_has_both_axes(tmp_path):
    points = [{"laptop_seconds": 30.0, "teraflop": 2.0, "frechet": 4.0}]
    points[0] |= {"seconds": 9.0}
    model = {"settings": "s", "seeds": [{"seed": 0, "points": points}]}
    found = {"machine": MACHINE, "models": {"dcgan": model, "plain_dcgan": model}}
    page.draw({"laptop": found}, tmp_path)
    names = {"laptop.svg", "laptop-compute.svg"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert "| 30 | 4 | 2 | 4 | 2 |" in page.laptop({"laptop": found})


def test_the_card_is_shown_with_what_was_not_measured():
    row = {"network": "dcgan", "size": 28, "precision": "bfloat16", "way": "fit"}
    row |= {"images_per_second": 5e4, "share_of_matrix_product": 0.021}
    row |= {"against_loop": 0.93, "peak_mb": 321.0}
    tests = {"passed": 7, "failed": 1, "skipped": 2, "failures": ["test_x: broke"]}
    found = {"device": "Abacus 9", "software": "JAX 1.2", "product_size": 8192}
    found |= {"product_gflops": {"bfloat16": 790e3}, "speed": [row]}
    found |= {"tests": tests | {"incomplete": "stopped after 99 seconds"}}
    found |= {"batches": [{"batch": 32, "images_per_second": 8.5}]}
    found |= {"failed": [{"what": "batches", "why": "no memory"}]}
    found |= {"dropped": ["float16: 3 seconds were left"]}
    results = {"machine": MACHINE, "card": "Abacus 9", "backends": {"jax": found}}
    text = page.gpu({"gpu": results})
    assert "**JAX 1.2 on Abacus 9**" in text and "790 in bfloat16" in text
    assert "7 passed, 1 failed, 2 skipped (incomplete: stopped after" in text
    assert "- test_x: broke" in text
    assert "| dcgan | 28 | bfloat16 | fit | 50,000 | 0.93 | 0.021 | 321 |" in text
    assert "| 32 | 8.5 |" in text
    assert "- float16: 3 seconds were left\n- batches: no memory" in text
    assert "2 cores, Abacus 9" in page.machines({"gpu": results})


def item(gflops=300.0, **changes):
    row = {"name": "06", "seconds": 25.0, "gb": 1.5, "passed": True}
    return {"gflops": {"notebooks": gflops}, "notebooks": [{**row, **changes}]}


def parts(**seconds):
    return [
        {"name": name, "seconds": seconds.get(name, 1.0), "passed": True}
        for name in budgets.TARGETS
    ]


def test_items_within_their_budget_pass():
    assert budgets.complaints(item(), BUDGETS) == []
    assert budgets.complaints({}, BUDGETS) == []


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"seconds": 31.0}, ["06", "31 s", "30 s", "300 GFLOP/s", "What to do"]),
        ({"gb": 2.5}, ["06", "2.5 GB", "2 GB", "What to do"]),
        ({"passed": False}, ["06", "failed"]),
    ],
)
def test_an_exceeded_budget_is_named(changes, parts):
    (line,) = budgets.complaints(item(**changes), BUDGETS)
    assert all(part in line for part in parts)


def test_seconds_are_scaled_to_the_machine_and_gigabytes_are_not():
    assert budgets.complaints(item(100.0, seconds=89.0), BUDGETS) == []
    (line,) = budgets.complaints(item(100.0, seconds=91.0), BUDGETS)
    assert "budget 90 s at 100 GFLOP/s" in line
    (line,) = budgets.complaints(item(600.0, seconds=20.0), BUDGETS)
    assert "budget 15 s at 600 GFLOP/s" in line
    assert len(budgets.complaints(item(100.0, gb=2.1), BUDGETS)) == 1
    old = {"machine": {"matrix_product_gflops": 150.0}}  # before parts had their own
    assert budgets.speed(old, "site") == 150.0


def test_each_part_is_compared():
    slow = {
        "gflops": dict.fromkeys(budgets.PARTS, 300.0),
        "site": [{"name": "one changed page", "seconds": 16.0, "passed": True}],
        "imports": [{"name": "genai_utils.data", "seconds": 0.1, "keras": True}],
        "tests": parts(unit=241.0),
    }
    assert len(budgets.complaints(slow, BUDGETS)) == 3
    found = budgets.complaints(item(name="26-cats", seconds=59.0, gb=2.9), BUDGETS)
    assert found == []


def test_the_parts_of_the_tests_are_added_up_once_all_are_there():
    rows = parts(unit=50.0, nbval=100.0)
    assert budgets.with_total(rows[:2]) == rows[:2]
    total = budgets.with_total(rows)[-1]
    assert total == {"name": "make test", "seconds": 154.0, "passed": True}
    rows[0]["passed"] = False
    assert not budgets.with_total(rows)[-1]["passed"]
    most = BUDGETS["tests"]["nbval"]["seconds"]
    tests = {"gflops": {"tests": 300.0}, "tests": parts(nbval=most + 6)}
    (line,) = budgets.complaints(tests, BUDGETS)
    assert line.startswith(f"nbval: measured {most + 6:g} s, budget {most:.3g} s")


def test_what_the_parts_may_cost_adds_up_to_the_whole():
    most = {name: limit["seconds"] for name, limit in BUDGETS["tests"].items()}
    whole = most.pop(budgets.WHOLE)
    assert set(most) == set(budgets.TARGETS) and sum(most.values()) <= whole
    assert whole * BUDGETS["gflops"] / 100 <= 75 * 60  # on a machine of 100 GFLOP/s


def test_the_page_shows_scaled_limits_and_the_speed():
    row = {"name": "06", "seconds": 40.0, "gb": 1.5, "passed": True}
    row |= {"cells": 9, "code_cells": 4, "kb": 3}
    found = {"machine": MACHINE, "gflops": {"notebooks": 150.0, "tests": 100.0}}
    found |= {"notebooks": [row], "tests": parts(unit=800.0)}
    text = page.notebooks({"book": found})
    assert "| 60 s, 2 GB | yes |" in text and "at 150 GFLOP/s" in text
    text = page.rest({"book": found})
    assert "| `make unit` | 800 | 720 | no |" in text
    assert "| `make nbval` | 1 | 2,250 | yes |" in text
    assert "| `make test` |" in text and "at 100 GFLOP/s" in text


def test_the_command_fails_if_a_budget_is_exceeded(monkeypatch, tmp_path, capsys):
    for module in (book, page):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(book, "machine", lambda: MACHINE)
    monkeypatch.setattr(book, "matrix_product_speed", lambda: 300.0)
    written: list[str] = []
    monkeypatch.setattr(book, "save", lambda name, results: written.append(name))
    monkeypatch.setattr(page, "main", lambda: written.append("pages"))
    monkeypatch.setattr(sys, "argv", ["book", "notebooks"])
    monkeypatch.setitem(book.PARTS, "notebooks", lambda b, *more: item()["notebooks"])
    assert book.main() == 0
    assert written == ["book", "pages"]  # before the next part, which may be the tests
    slow = item(seconds=99.0)["notebooks"]
    monkeypatch.setitem(book.PARTS, "notebooks", lambda b, *more: slow)
    assert book.main() == 1
    assert "99 s, budget 30 s" in capsys.readouterr().out


def test_peak_memory_counts_what_a_child_holds():
    code = "import time; x = bytearray(b'1' * 300_000_000); time.sleep(0.3)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    row = book.watched([sys.executable, "-c", outer])
    assert row["passed"] and 0.3 < row["gb"] < 0.9


def test_the_contest_compares_only_what_was_run():
    def model(*points, key="frechet"):
        pairs = [{"seconds": s, key: v} for s, v in points]
        return {"settings": "", "seeds": [{"seed": 0, "points": pairs}]}

    found = {
        "floor": 0.5,
        "models": {
            "dcgan": model((30, 9.0), (60.4, 3.0), (120.1, 2.0)),
            "tutorial_dcgan": model((60, 40.0), (200, 20.0)),
            "conv_vae": model((2, -180.0), (5, -120.0), key="elbo"),
            "keras_vae": model((10, -170.0), (160, -150.0), key="elbo"),
        },
    }
    lines = page.contest(found)
    assert len(lines) == 3
    assert "at a distance of 3. Where" in lines[0]
    assert "the tutorial's DCGAN is at 20 after 200 seconds." in lines[0]
    assert "4.0 times the floor" in lines[1]
    text = page.description(found)
    assert "After 60 seconds: book's DCGAN 3, tutorial's DCGAN 40." in text
    assert "At the end: book's DCGAN 2 after 120 seconds, tutorial's DCGAN 20" in text
    assert "-150.0 nats after 160 seconds" in lines[2] and "after 5 seconds" in lines[2]
    del found["models"]["dcgan"]["seeds"][0]["points"][-1]  # 120 s were not run
    assert len(page.contest(found)) == 2


def test_the_scoreboard_is_a_table_of_means_best_first():
    def entrant(label, *distances):
        runs = [
            {"points": [{"frechet": 9.0}, {"frechet": d}], "milliseconds": 2.0}
            | {"parameters": 1234}
            for d in distances
        ]
        return {"label": label, "runs": runs, "bits": "none", "calls": 3}

    entrants = {"a": entrant("worse", 2.0, 4.0), "b": entrant("better", 1.0, 1.5)}
    found = {"samples": 500, "budget": 30.0, "seeds": 2, "entrants": entrants}
    rules, rows = page.board(found)
    assert "30 processor-seconds" in rules
    better, worse = rows.splitlines()[2:]
    assert better.startswith("| better | 1.25 |") and worse.startswith("| worse | 3")
    assert "| 1,234 | 2" in better
    assert "worse" in page.chapters({"scoreboard": found})


def test_a_race_is_told_in_sentences():
    seeds = [
        {"seed": 0, "rival": 900.0, "share": 0.02}
        | {"book_at_its_end": 1.2, "dcgan_at_its_end": 0.6},
        {"seed": 1, "rival": 900.0, "share": 0.04}
        | {"book_at_its_end": 1.0, "dcgan_at_its_end": 0.4},
    ]
    run = [{"model": "dcgan", "seconds": 300.1}, {"model": "book", "seconds": 900.0}]
    run += [{"model": "keras_ddim", "seconds": 900.0, "epochs": 1.68}]
    first, second = page.verdicts({"race_outcome": seeds, "race": run})
    assert "after 900 s (1.7 epochs, a small part" in first
    assert "in 3 % of that time" in first
    assert "After 300 s" in second and "stands at 1.1" in second
    assert "DCGAN at 0.5" in second and "2.2 times as far" in second
    marks = [{"rival": 10.0, "share": 0.5}, {"rival": 20.0, "share": None}]
    assert page.verdicts({"race_outcome": marks}) == [
        "The book's model did not reach the example's last distance."
    ]
    (only,) = page.verdicts({"race_outcome": marks[:1], "race": run})
    assert "in 50 % of that time" in only
    assert page.verdicts({"toys": []}) == []
