"""`python -m benchmarks [NAME …]`: run the benchmarks (all of them without a name)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

NAMES = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def main() -> None:
    arguments = sys.argv[1:]
    wanted = [name for name in arguments if not name.startswith("-")] or NAMES
    options = [name for name in arguments if name.startswith("-")]
    unknown = set(wanted) - set(NAMES)
    if unknown:
        sys.exit(f"No such benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}.")
    for name in wanted:
        print(f"\n== {name}", flush=True)
        sys.argv = [f"bench_{name}", *options]
        importlib.import_module(f"benchmarks.bench_{name}").main()


if __name__ == "__main__":
    main()
