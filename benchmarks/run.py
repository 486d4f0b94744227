"""Runs every bench_*.py beside this file, or the one that is named; prints a table and keeps it as JSON."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.rows import Figure

OK = {True: "yes", False: "NO", None: ""}
HERE = Path(__file__).resolve().parent


def main(chosen: list[str]) -> int:
    """Run; returns 1 where a figure missed its budget."""
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    if unknown := set(chosen) - set(names):
        print(f"no benchmark is called {', '.join(sorted(unknown))}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    missed = 0
    for name in chosen or names:
        figures: list[Figure] = importlib.import_module(f"benchmarks.bench_{name}").run()
        show(name, figures)
        results = HERE / "results"
        results.mkdir(exist_ok=True)
        (results / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
        missed += sum(figure.ok is False for figure in figures)
    return 1 if missed else 0


def show(name: str, figures: list[Figure]) -> None:
    """One table."""
    table = Table(title=name, title_justify="left")
    for title in ("figure", "measured", "unit", "budget", "peer or floor", "its figure", "ok"):
        table.add_column(title, overflow="fold")
    for each in figures:
        peer = "" if each.peer_measured is None else f"{each.peer_measured:.4g}"
        budget = "" if each.budget is None else f"{each.budget:g}"
        table.add_row(
            each.name, f"{each.measured:.4g}", each.unit, budget, each.peer, peer, {True: "yes", False: "NO", None: ""}[each.ok]
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
