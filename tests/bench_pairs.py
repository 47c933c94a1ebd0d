"""Whether anything got slower between two checkouts: `python tests/bench_pairs.py BEFORE [AFTER]`, folders.

    git worktree add ../before COMMIT && python tests/bench_pairs.py ../before

Each checkout has a worker, a process of its own that keeps its models and is asked over its standard input for one part
at a time; the other waits meanwhile. The two take turns (ABBA) and do the same work in every turn: the same records, as
many steps, with as many edits stored. Taken is the processor's time on one thread. For each part the table has AFTER's
median time by BEFORE's, and an interval that holds the median of the turns' ratios in 95 of 100 cases. The exit status
is 1 where all of an interval is above what is allowed (--slower, 1.03). Where an interval reaches beyond it, more turns
narrow it. The worker uses what `memoir` itself names alone, so that checkouts of any layout can be compared.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m"
STEADY = dict(n_iter=5, stop_loss=0.0, stop_change=None)  # as many steps whatever is learnt


# --- The worker.


def editing(editor, facts: Sequence) -> Callable[[], list]:
    """A call that writes these facts one by one."""
    return lambda: [editor.edit(fact.prompt, fact.target) for fact in facts]


def parts() -> dict[str, tuple]:
    """By name: a call to be timed, and where it stores edits, the editor that is to forget them afterwards."""
    import memoir

    def made(which: str = "default", **options):
        return memoir.Memoir(*memoir.load_model(MODEL), **memoir.settings(MODEL, which) | STEADY | options)

    facts = memoir.load_records("openfacts")
    facts = facts[:: len(facts) // 118][:118]
    stored, two, many = facts[:100], facts[100:102], facts[102:]
    asked = [fact.rephrasings[0] for fact in stored[::6]]
    # after eight steps all ways of asking are looked at again
    sgd, rls, recommended = made(), made(update="rls"), made("recommended", n_iter=10)
    sgd.edit_all(stored, batch=20)
    return {
        "edit, sgd": (editing(sgd, two), sgd),
        "edit, rls": (editing(rls, two), rls),
        # two, as the texts before questions have two lengths; they are read by the first turns, the same in both
        "edit, recommended": (editing(recommended, two), recommended),
        "16 at once": (lambda: sgd.edit_all(many, batch=len(many)), sgd),
        "route, 100 edits": (lambda: sgd.route(asked), None),
        "generate, 100 edits": (lambda: sgd.generate(stored[0].prompt), None),
    }


def work() -> None:
    """Tell on standard output where memoir was found and which parts there are, then the seconds of each one asked."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    import memoir

    warnings.filterwarnings("ignore", category=UserWarning)  # ten steps do not learn everything
    known = parts()
    print(json.dumps([memoir.__file__, list(known)]), file=out, flush=True)
    for line in sys.stdin:
        call, editor = known[json.loads(line)]
        start = time.process_time()
        found = call()
        took = time.process_time() - start
        for result in found if editor else ():
            editor.forget(result.index)
        print(json.dumps(took), file=out, flush=True)


# --- Who asks.


def started(checkout: Path) -> subprocess.Popen:
    """The worker of a checkout."""
    here = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=checkout, env=os.environ | here, **pipes)


def heard(worker: subprocess.Popen):
    """What a worker says next."""
    if not (line := worker.stdout.readline()):
        sys.exit(f"The worker of {worker.args} ended with status {worker.wait()}.")
    return json.loads(line)


def ready(worker: subprocess.Popen, checkout: Path) -> list[str]:
    """The parts of a worker that has made its editors, from its own checkout."""
    file, names = heard(worker)
    if not Path(file).resolve().is_relative_to(checkout):
        sys.exit(f"{checkout} was to be measured, but memoir was found in {file}.")
    return names


def asked(worker: subprocess.Popen, part: str) -> float:
    """The seconds of a part."""
    print(json.dumps(part), file=worker.stdin, flush=True)
    return heard(worker)


def taken(workers: Sequence[subprocess.Popen], names: Sequence[str], turns: int) -> dict[str, list[list[float]]]:
    """By part: the seconds of both workers in each turn; a turn before the first warms up."""
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for turn in range(turns + 1):
        for name in names:
            took = {worker: asked(worker, name) for worker in (workers, workers[::-1])[turn % 2]}
            found[name].append([took[worker] for worker in workers])
        print(f"turn {turn} of {turns}", file=sys.stderr, flush=True)
    return {name: pairs[1:] for name, pairs in found.items()}


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Between which ratios the median lies in at least 95 of 100 cases, as far as so few can tell."""
    n, rank, tail = len(ratios), 1, 1  # of 2 ** n orders, those with fewer than `rank` ratios on the median's one side
    while tail + math.comb(n, rank) <= 0.025 * 2**n:
        tail, rank = tail + math.comb(n, rank), rank + 1
    return sorted(ratios)[rank - 1], sorted(ratios)[n - rank]


def row(name: str, pairs: list[list[float]], allowed: float) -> tuple[str, float, float, float, str]:
    """A part's ratio, its interval, and what it says."""
    before, after = zip(*pairs, strict=True)
    low, high = interval([b / a for a, b in pairs])
    verdict = "slower" if low > allowed else "not slower" if high <= allowed else "undecided: more turns"
    return name, median(after) / median(before), low, high, verdict


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description="Times of two checkouts, in turns.")
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument(
        "after", type=Path, nargs="?", default=ROOT, help="another one; by default the one of this file"
    )
    parser.add_argument("--parts", nargs="+", help="some of them alone, by the names in the table")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--slower", type=float, default=1.03, help="the ratio that is allowed (default 1.03)")
    return parser.parse_args()


def main() -> int:
    """Compare the two checkouts; the exit status."""
    args = arguments()
    checkouts = [args.before.resolve(), args.after.resolve()]
    workers = [started(checkout) for checkout in checkouts]
    try:
        known = [ready(*pair) for pair in zip(workers, checkouts, strict=True)]
        rows = [row(*one, args.slower) for one in taken(workers, args.parts or known[0], args.turns).items()]
    finally:
        for worker in workers:
            worker.stdin.close()
            worker.wait()
    for name, ratio, low, high, verdict in rows:
        print(f"{name:20}  {ratio:.3f}  {low:.3f}–{high:.3f}  {verdict}")
    print(f"after by before, {args.turns} turns, at a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    return int(any(verdict == "slower" for *_, verdict in rows))


if __name__ == "__main__":
    sys.exit(work() if sys.argv[1:] == ["--worker"] else main())
