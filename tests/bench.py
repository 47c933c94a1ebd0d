"""Speed, as ratios measured side by side in one process: `make bench`. Absolute times mean little across machines."""

import time
from statistics import median

import numpy as np
import torch
from plain import plain_losses

import memoir
from memoir.tophash import overlap_counts

STEPS, PAIRS = 10, 3
RECORD = ("What is the capital of France?", "Lyon")


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def frozen_prefix_against_plain() -> None:
    """An edit with the bare prompt and 10 prefixes, as many steps on each side, in turns."""
    settings = memoir.settings("smollm2-135m") | dict(layer=25, n_iter=STEPS, lr=0.5, n_prefixes=10)
    editor = memoir.Memoir(*memoir.load_model("smollm2-135m"), **settings)
    ratios = []
    for _ in range(PAIRS + 1):
        plain = seconds(lambda: plain_losses(editor, *RECORD, STEPS))
        quick = editor.edit(*RECORD)
        assert quick.steps == STEPS
        editor.memory.weight.zero_()
        ratios.append(plain / quick.seconds)
    editor.detach()
    print(f"frozen prefix: {median(ratios[1:]):.2f}x faster than the full forward pass at every step "
          f"(bar: 4; runs {', '.join(f'{r:.2f}' for r in ratios[1:])})")  # fmt: skip


def routing(queries: int = 64, stored: int = 7000, size: int = 14336) -> None:
    """Queries against stored masks at the paper's size."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 256, (stored, size // 8), dtype=np.uint8)
    asked = rng.integers(0, 256, (queries, size // 8), dtype=np.uint8)
    took = median(seconds(lambda: overlap_counts(asked, masks)) for _ in range(5))
    print(f"routing: {took / queries * 1e3:.2f} ms a query against {stored} masks at D = {size} (bar: 5), "
          f"{masks.nbytes / 1e6:.1f} MB of masks (bar: 30)")  # fmt: skip


def edit_at_a_thousand_against_the_first(stored: int = 1000) -> None:
    """The time of one edit with many masks stored against that with none, in turns."""
    editor = memoir.Memoir(*memoir.load_model("smollm2-135m"), **memoir.settings("smollm2-135m") | dict(n_iter=5))
    masks = np.random.default_rng(0).integers(0, 256, (stored, editor.memory.size // 8), dtype=np.uint8)
    times = {0: [], stored: []}
    for _ in range(2 * PAIRS + 1):
        for n, found in times.items():
            editor.memory.n_edits = 0
            editor.edits.clear()
            editor.memory.store(masks[:n])
            editor.memory.weight.zero_()
            found.append(editor.edit(*RECORD).seconds)
    editor.detach()
    ratio = median(times[stored][1:]) / median(times[0][1:])
    print(f"growth: edit {stored} takes {ratio:.3f} times as long as edit 1 (bar: 1.10)")


if __name__ == "__main__":
    torch.manual_seed(0)
    routing()
    edit_at_a_thousand_against_the_first()
    frozen_prefix_against_plain()
