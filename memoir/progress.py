"""How far a long loop is: a bar on a terminal, now and then a line in a log."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 300


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield the items; show count, rate and time left. Loops shorter than five minutes leave no line in a log."""
    if sys.stderr.isatty():
        yield from tqdm(items, unit=f" {what}")
        return
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            rate = done / (now - start)
            left = (len(items) - done) / rate / 60 if rate else float("nan")
            print(
                f"{done} of {len(items)} {what}, {rate:.2f} a second, {left:.0f} minutes left",
                file=sys.stderr,
                flush=True,
            )
            last = now
        yield item
