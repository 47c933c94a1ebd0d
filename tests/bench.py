"""Speed, as ratios to a peer that is measured beside it in one process: `make bench`.

Milliseconds belong to a processor, so every bar is a ratio. What is compared does the same work in every run: the same
block of edits from the same state, or as many steps on both sides. The two take turns, in another order from run to
run, and what counts is the processor's time on one thread: other work on the machine slows both alike. At the end a
table has each ratio's median and its least and greatest; the exit status is 1 if a bar is missed in every run.
`python tests/bench.py routing packed_maps` measures some parts alone. `bench_pairs.py` compares two commits.
"""

import argparse
import copy
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from plain import plain_losses
from transformers import AutoConfig, AutoModelForCausalLM

import memoir

# --- All that is used of the companion beyond what `memoir` itself names, and `plain.py` beside this file.
from memoir.routing.gate import LexicalGate


def clear(editor) -> None:
    """Take all edits out of an editor, but for what its update keeps of them."""
    editor.memory.clear()
    editor.memory.weight.zero_()
    editor.edits.clear()
    editor.log.clear()


def anew(editor) -> Callable:
    """A function that writes records, as `edit_all` does, after taking out whatever was stored since it was made."""
    start = copy.deepcopy(editor.projector)

    def write(*records, **how) -> None:
        clear(editor)
        editor.projector = copy.deepcopy(start)
        editor.edit_all(*records, **how)

    return write


def counted(editor, edits: list[memoir.Edit], masks: np.ndarray) -> None:
    """Put packed masks in place of all that is stored, as if these edits had been made."""
    clear(editor)
    editor.memory.store(masks)
    editor.edits.extend(edits)


# --- How it is measured.

MODEL = "smollm2-135m"
SIZE, K = 14336, 4096  # the paper's: D, and ones of a mask
STEPS = 10
STEADY = dict(n_iter=STEPS, stop_loss=0.0, stop_change=None)  # as many steps whatever is learnt
RECORD = ("What is the capital of France?", "Lyon")
USUAL = ("What university did the author of the first history of the city of Lyon attend?", "The University of Uppsala")
BACKGROUND = ("How tall is the tower?", "Name a river in Peru.", "Who wrote the song?", "The boiling point of water is")


@dataclass(frozen=True)
class Row:
    """One part's ratios, one for each run, and its bar: the least that they may be, or the most."""

    part: str
    ratios: list[float]
    bar: float
    least: bool

    def keeps(self, ratio: float) -> bool:
        """Whether a ratio is on the bar's right side."""
        return ratio >= self.bar if self.least else ratio <= self.bar

    @property
    def verdict(self) -> str:
        """Whether the bar is met by the median, missed by it alone, or missed in every run."""
        if self.keeps(median(self.ratios)):
            return "met"
        return "missed, within the spread" if any(map(self.keeps, self.ratios)) else "missed"


Rows = Iterator[Row]


def at_least(bar: float, part: str, ratios: list[float]) -> Row:
    """A part that is to be so many times as fast as its peer."""
    return Row(part, ratios, bar, True)


def at_most(bar: float, part: str, ratios: list[float]) -> Row:
    """A part that is to take no more than so many times as long as its peer."""
    return Row(part, ratios, bar, False)


def seconds(call: Callable, times: int = 1) -> float:
    """The processor's seconds for so many calls."""
    start = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - start


def compared(one: Callable, other: Callable, runs: int = 8, times: int = 1, warm: bool = True) -> list[float]:
    """How many times as long as `other` does `one` take: a ratio for each run, after one that warms up where asked.

    Within a run both are called so many times in a row; the order changes from run to run.
    """
    found = []
    for run in range(runs + warm):
        took = {call: seconds(call, times) for call in ((one, other), (other, one))[run % 2]}
        found.append(took[one] / took[other])
    return found[warm:]


def made(**options) -> memoir.Memoir:
    """An editor of a default model of its own, with the model's settings but for these."""
    options = memoir.settings(MODEL) | {"background": BACKGROUND} | options
    return memoir.Memoir(*memoir.load_model(MODEL), **options)


def some_facts(n: int) -> list[memoir.EditRecord]:
    """Facts of OpenFacts, of all its relations."""
    facts = memoir.load_records("openfacts")
    return facts[:: len(facts) // n][:n]


def drawn(n: int, k: int, size: int, seed: int) -> torch.Tensor:
    """Random masks with k ones each, (n, size) bool."""
    ones = np.zeros((n, size), dtype=bool)
    ones[:, :k] = True
    return torch.from_numpy(np.random.default_rng(seed).permuted(ones, axis=1))


def packed(masks: torch.Tensor) -> np.ndarray:
    """Eight ones and zeros to a byte."""
    return np.packbits(masks.numpy(), axis=1, bitorder="little")


def holding(masks: np.ndarray) -> memoir.ResidualMemory:
    """A memory of the paper's size that these packed masks are stored in."""
    memory = memoir.ResidualMemory(SIZE, 1, K, 0.4, torch.arange(SIZE), torch.device("cpu"))
    memory.store(masks)
    return memory


# --- The parts.


def best_by_numpy(masks: torch.Tensor, stored: np.ndarray) -> np.ndarray:
    """The best overlap of each mask by NumPy's popcount, in blocks of 256 KiB, which stay in the processor's cache."""
    queries, stored = packed(masks).view(np.uint64), stored.view(np.uint64)
    counts, rows = np.empty((len(queries), len(stored)), np.int64), max(1, 2**18 // (8 * stored.shape[1]))
    for start in range(0, len(stored), rows):
        block = stored[start : start + rows]
        for row, query in enumerate(queries):
            counts[row, start : start + rows] = np.bitwise_count(block & query).sum(axis=1, dtype=np.int64)
    return counts.max(axis=1)


def faiss_index(stored: np.ndarray):
    """These packed masks in faiss's exact index by Hamming distance; None, and a sentence, where there is no faiss."""
    try:
        import faiss
    except ImportError:
        print("faiss is not installed (pip install faiss-cpu): routing is compared with NumPy alone.", flush=True)
        return None
    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(8 * stored.shape[1])
    index.add(stored)
    return index


def routing(stored: int = 7000) -> Rows:
    """Queries against stored masks at the paper's size, many at once and one alone, one edit forgotten.

    As all masks have k ones, the greatest overlap is the least Hamming distance. faiss has no forgotten mask.
    """
    masks = packed(drawn(stored, K, SIZE, seed=0))
    memory, index = holding(masks), faiss_index(masks[1:])
    memory.forget([0])
    for queries, times in ((64, 1), (1, 16)):
        asked = drawn(queries, K, SIZE, seed=1)

        def ours(asked=asked) -> list[memoir.Route]:
            return memory.route(asked)

        def numpys(asked=asked) -> np.ndarray:
            return best_by_numpy(asked, memory.masks)

        def faiss_s(asked=asked) -> np.ndarray:
            return K - index.search(packed(asked), 1)[0][:, 0] // 2

        for peer, call, bar in (("NumPy", numpys, 4 if queries > 1 else 1), ("faiss", faiss_s, 1)):
            if call is numpys or index:
                assert call().tolist() == [round(route.overlap * K) for route in ours()]
                what = f"routing, {f'{queries} at once' if queries > 1 else 'one alone'}, beside {peer}"
                yield at_least(bar, what, compared(call, ours, times=times))


def lexical_gate(queries: int = 64, stored: int = 7000) -> Rows:
    """Routing by masks at the paper's size where stored prompts' distinguishing words are asked as well, and alone."""
    prompts, gate = [fact.prompt for fact in memoir.load_records("openfacts")[:stored]], LexicalGate(0.4)
    memory, asked = holding(packed(drawn(stored, K, SIZE, seed=0))), drawn(queries, K, SIZE, seed=1)

    def gated() -> None:
        memory.route(asked, gate.allowed(prompts[:queries], prompts, memory.masks, memory.changes))

    yield at_most(2, "lexical gate, beside masks alone", compared(gated, lambda: memory.route(asked), times=2))


def router_by_meaning(stored: int = 7000, asked: int = 8) -> Rows:
    """Routing by words and meaning among 7,000 edits, and one forward pass of the model over the same questions."""
    editor, facts = made(router="meaning"), memoir.load_records("openfacts")[:stored]
    editor.edits.extend(memoir.Edit(fact.prompt, fact.target) for fact in facts)
    some = facts[:: stored // asked][:asked]
    texts = {"rephrasings": [fact.rephrasings[0] for fact in some], "other questions": [f.irrelevant for f in some]}
    for what, questions in texts.items():
        rows = [editor.tokenizer(question, return_tensors="pt") for question in questions]

        def read(rows=rows) -> None:
            with editor.base(), torch.no_grad():
                for row in rows:
                    editor.model(**row)

        def route(questions=questions) -> None:
            for question in questions:
                editor.route(question)

        yield at_most(0.25, f"router by meaning, {what}, beside a forward pass", compared(route, read, 4))
    editor.detach()


def growth(late: tuple[int, ...] = (1000, 7000), early: int = 100) -> Rows:
    """An edit with many stored already, and one with a hundred, as many steps each."""
    editor = made(**STEADY | {"n_iter": 5})
    masks = packed(drawn(max(late), editor.memory.k, editor.memory.size, 0))
    edits = [memoir.Edit(fact.prompt, fact.target) for fact in memoir.load_records("openfacts")[: max(late)]]

    def after(n: int) -> None:
        counted(editor, edits[:n], masks[:n])  # a thousandth of what an edit takes
        editor.edit(*RECORD)

    for n in late:
        found = compared(lambda n=n: after(n), lambda: after(early), times=2)
        yield at_most(1.15, f"growth: edit {n}, beside edit {early}", found)
    editor.detach()


def packed_maps() -> Rows:
    """Edits with the frozen maps above the edited one packed for the processor, and without."""
    ours = made(**STEADY)
    with patch.object(torch.backends.mkldnn, "is_available", return_value=False):
        plain = made(**STEADY)
    target = "Lyon, by the river"
    found = compared(lambda: plain.edit(RECORD[0], target), lambda: ours.edit(RECORD[0], target))
    yield at_least(1, "packed maps, beside plain ones", found)
    plain.detach(), ours.detach()


def frozen_prefix() -> Rows:
    """An edit with the bare prompt and 10 prefixes, and the full forward pass at every step, as many steps each."""
    editor = made(**STEADY | dict(lr=0.5, n_prefixes=10))

    def ours() -> None:
        clear(editor)
        assert editor.edit(*RECORD).steps == STEPS

    ours()
    found = compared(lambda: plain_losses(editor, *RECORD, STEPS), ours, 4, warm=False)
    yield at_least(4, "frozen prefix, beside full passes", found)
    editor.detach()


def recommended(n: int = 4) -> Rows:
    """The same edits under the recommended settings and under rls alone, each until it is learnt, from empty memories.

    The texts that stand before questions are read beforehand, as they are for all but an editor's first edits.
    """
    editors, facts = [made(**memoir.settings(MODEL, "recommended")), made(update="rls")], some_facts(n)
    one, other = (partial(anew(editor), facts) for editor in editors)
    one()
    yield at_most(4, "an edit under `recommended`, beside rls alone", compared(one, other, 3, warm=False))
    for editor in editors:
        editor.detach()


def evaluation(n: int = 4, edits: int = 2) -> Rows:
    """Records' questions asked one by one, of the untouched model too where locality is measured, beside `evaluate`.

    `evaluate` asks as at every checkpoint of a stream but its first: the untouched model's answers are known by then.
    """
    editor, facts = made(), some_facts(n)
    editor.edit_all(facts[:edits])
    for generated in (False, True):

        def ask(prompt: str, answer: str, generated=generated) -> None:
            editor.score(prompt, answer)
            if generated:
                editor.said([prompt], [answer])

        def one_by_one(ask=ask) -> None:
            for fact in facts:
                for prompt in (fact.prompt, *fact.rephrasings):
                    ask(prompt, fact.target)
                for pair in ((fact.irrelevant, fact.irrelevant_answer), (fact.neighbour, fact.neighbour_answer)):
                    ask(*pair)
                    with editor.base():
                        ask(*pair)

        def together(generated=generated) -> None:
            memoir.evaluate(editor, facts, generated=generated)

        what = f"evaluation{', generated too' if generated else ''}, beside question by question"
        together()  # asks the untouched model
        yield at_least(2, what, compared(one_by_one, together, 2, warm=False))
    editor.detach()


def reliability(editor, facts: Sequence[memoir.EditRecord]) -> float:
    """The mean over the facts of the share of their targets' tokens that the model answers."""
    scores = editor.score([fact.prompt for fact in facts], [fact.target for fact in facts])
    return sum((score.argmax == score.target).float().mean().item() for score in scores) / len(scores)


def batches(n: int = 32, size: int = 16) -> Rows:
    """The same edits one by one and sixteen at once, each until it is learnt, from empty memories; what was learnt."""
    facts = some_facts(n)
    for update in ("sgd", "rls"):
        editors = [made(update=update) for _ in range(2)]
        ways = list(zip(map(anew, editors), (1, size), strict=True))
        for write, batch in ways:
            write(facts[:batch], batch=batch)
        alone, together = (partial(write, facts, batch=batch) for write, batch in ways)
        found = compared(alone, together, 2, warm=False)
        yield at_least(2, f"{size} at once, {update}, beside one by one", found)
        one, many = (reliability(editor, facts) for editor in editors)
        yield at_least(0.99, f"{size} at once, {update}: reliability, beside one by one", [many / one])
        for editor in editors:
            editor.detach()


def wide_model():
    """Two random layers as wide as a model of 1.5 billion parameters has them: D = 8960, d = 1536."""
    config = AutoConfig.for_model(
        "llama", hidden_size=1536, intermediate_size=8960, num_hidden_layers=2, num_attention_heads=12,
        num_key_value_heads=2, vocab_size=49152, tie_word_embeddings=True, pad_token_id=2, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def rls() -> Rows:
    """Edits under recursive least squares and under plain descent, as many steps each, of two models."""
    default, tokenizer = memoir.load_model(MODEL)
    for model, more in ((default, {}), (wide_model(), dict(layer=0, k=2561))):
        options = memoir.settings(MODEL) | STEADY | {"background": BACKGROUND} | more
        models = (model, copy.deepcopy(model))
        both = [memoir.Memoir(m, tokenizer, **options, update=u) for m, u in zip(models, ("rls", "sgd"), strict=True)]
        one, other = ((lambda editor=editor: editor.edit(*USUAL)) for editor in both)
        found = compared(one, other, 4)
        yield at_most(1.3, f"an edit under rls, D = {both[0].memory.size}, beside SGD", found)
        for editor in both:
            editor.detach()


# what watches the host and routes has its place here: a query with it, beside one without, at most 1.01 times as long
PARTS = (
    routing, lexical_gate, router_by_meaning, growth, packed_maps, frozen_prefix, recommended, evaluation, batches, rls,
)  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """A row's part, median, least and greatest ratio, bar and verdict."""
    low, middle, high = (f"{found:.3g}" for found in (min(row.ratios), median(row.ratios), max(row.ratios)))
    spread, bar = f"{low}–{high}" if len(row.ratios) > 1 else "one run", f"{'≥' if row.least else '≤'} {row.bar:g}"
    return row.part, middle, spread, bar, row.verdict


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    lines = [("part", "ratio", "spread", "bar", ""), *map(cells, rows)]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(n) for cell, n in zip(line, wide, strict=True)).rstrip() for line in lines)


def measured(parts: Sequence[Callable[[], Rows]]) -> list[Row]:
    """The rows of these parts, each of which is told as soon as it is there."""
    rows: list[Row] = []
    for part in parts:
        for row in part():
            print("  ".join(cells(row)), file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def main() -> int:
    """Measure the parts that are named, or all; the exit status."""
    parser = argparse.ArgumentParser(description="Speed as ratios to a peer in the same process.")
    names = {part.__name__: part for part in PARTS}
    parser.add_argument("parts", nargs="*", help=f"{', '.join(names)}; all by default", metavar="PART")
    chosen = parser.parse_args().parts or list(names)
    if wrong := set(chosen) - set(names):
        parser.error(f"there is no part {', '.join(sorted(wrong))}")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)  # ten steps do not learn everything
    start, began = time.process_time(), time.perf_counter()
    rows = measured([names[name] for name in chosen])
    print(table(rows))
    print(
        "≥: how many times as fast as its peer; ≤: how many times as long as its peer it takes. Spread: least and "
        f"greatest of the runs. {time.perf_counter() - began:.0f} s, {time.process_time() - start:.0f} of them the "
        f"processor's, at a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors."
    )
    return int(any(row.verdict == "missed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
