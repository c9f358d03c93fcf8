"""``make bench``: how fast the node is, beside its peers and the limits of the machine.

Each part measures one thing, and can be run alone: ``python -m tests.bench.receive``. All figures
go to build/bench/bench.json, and plots beside it; ``python -m tests.bench.document`` writes
docs/performance.md from there. The exit status is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from rich.console import Console

from tests.bench import goals, plots
from tests.bench.part import measured
from tests.peers import REPOSITORY

PARTS = ("receive", "send", "load", "encode", "ledger", "inference", "end_to_end")
JSON = REPOSITORY / "build" / "bench" / "bench.json"


def main() -> int:
    """Measure, print, and write; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description="Speed, beside peers and limits.")
    parser.add_argument(
        "--only",
        type=lambda given: given.split(","),
        default=PARTS,
        metavar="PART,...",
        help=f"of {', '.join(PARTS)}; what else bench.json holds stays",
    )
    chosen = parser.parse_args().only
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    parts: dict[str, Any] = json.loads(JSON.read_text()) if JSON.exists() else {}
    JSON.parent.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        # In a process of its own: what one part imports or keeps is not in another's figures.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            parts[name] = pool.submit(measured, name).result()
        plots.draw(name, parts[name], JSON.parent)
        JSON.write_text(json.dumps(parts, indent=2) + "\n")
    judged = [goal for name in chosen for goal in parts[name]["goals"]]
    Console(width=goals.WIDTH).print(goals.table(judged))
    return 0 if goals.met(judged) else 1


if __name__ == "__main__":
    sys.exit(main())
