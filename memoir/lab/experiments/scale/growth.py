"""How routing grows with the number of stored masks: time and memory up to a million, and what an index would cost.

Knows packed masks. The exact search looks at every bit of every stored mask. The approximate one looks at one byte of
EVERY so many first, and at all bits of the best SHORTLIST only: the order of a mask's bits is a random permutation, so
any part of its bytes is a fair sample of it.
"""

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from memoir.theory.overlap import random_masks
from memoir.tophash import overlap_counts

SIZES = (1_000, 10_000, 100_000, 1_000_000)
D, K = 14336, 4096  # the paper's width and its ones per mask
DRAWN = 100_000  # masks that are drawn; the rest are these with their bytes rotated, which are random masks too
QUERIES = 16  # asked at once
EVERY = (4, 8, 16, 32)
SHORTLIST = 64


def shortlisted(queries: NDArray, stored: NDArray, sample: NDArray, every: int) -> NDArray:
    """The best match of each packed query among `stored` (N, bytes), found by `sample`, every so many bytes of them."""
    counts = overlap_counts(np.ascontiguousarray(queries[:, ::every]), sample)
    some = np.argpartition(-counts, min(SHORTLIST, len(stored)) - 1, axis=1)[:, :SHORTLIST]
    exact = [overlap_counts(query[None], stored[rows])[0] for query, rows in zip(queries, some, strict=True)]
    return np.array([rows[found.argmax()] for rows, found in zip(some, exact, strict=True)])


def speed(sizes: Sequence[int] = SIZES, size: int = D, k: int = K) -> pd.DataFrame:
    """Milliseconds a query and bytes of memory, by number of stored masks: columns n, search, ms, bytes.

    search: "exact", or "1/8 first" and its like; bytes: of the masks, and of the sample that is kept beside them.
    """
    drawn = random_masks(min(max(sizes), DRAWN), k, size, seed=0)
    stored = np.concatenate([np.roll(drawn, 7 * turn, axis=1) for turn in range(-(-max(sizes) // len(drawn)))])
    queries, rows = random_masks(QUERIES, k, size, seed=1), []
    for n in sizes:
        here = stored[:n]
        took = _ms(lambda here=here: overlap_counts(queries, here))
        rows.append({"n": n, "search": "exact", "ms": took, "bytes": here.nbytes})
        for every in EVERY:
            sample = np.ascontiguousarray(here[:, ::every])
            took = _ms(lambda here=here, sample=sample, every=every: shortlisted(queries, here, sample, every))
            rows.append({"n": n, "search": f"1/{every} first", "ms": took, "bytes": here.nbytes + sample.nbytes})
    return pd.DataFrame(rows)


def errors(queries: NDArray, stored: NDArray) -> pd.DataFrame:
    """How often the approximate search misses the exact one's overlap on real masks: columns search, same, lost.

    same: the share of queries whose best overlap it finds; lost: what is lacking where it does not, as a share of k.
    """
    counts = overlap_counts(queries, stored)
    best, k = counts.max(axis=1), int(np.bitwise_count(stored[0]).sum())
    rows = []
    for every in EVERY:
        found = shortlisted(queries, stored, np.ascontiguousarray(stored[:, ::every]), every)
        lacking = (best - counts[np.arange(len(queries)), found]) / k
        lost = lacking[lacking > 0].mean() if (lacking > 0).any() else 0.0
        rows.append({"search": f"1/{every} first", "same": (lacking == 0).mean(), "lost": lost})
    return pd.DataFrame(rows)


def _ms(call) -> float:
    """Milliseconds a query, the least of three."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return 1000 * min(took) / QUERIES
