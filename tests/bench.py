"""Speed, as ratios measured side by side in one process: `make bench`. Absolute times mean little across machines."""

import time
from contextlib import nullcontext
from statistics import median

import numpy as np
import torch
from plain import plain_losses
from transformers import AutoConfig, AutoModelForCausalLM

import memoir
from memoir import tophash
from memoir.chat import forms
from memoir.facts.record import LOCALITIES, questions
from memoir.memory import ResidualMemory
from memoir.routing.gate import LexicalGate
from memoir.routing.router import Router
from memoir.theory.overlap import random_masks
from memoir.tophash import overlap_counts
from memoir.update import Identity

STEPS, PAIRS = 10, 3
RECORD = ("What is the capital of France?", "Lyon")
USUAL = ("What university did the author of the first history of the city of Lyon attend?", "The University of Uppsala")


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


def counts_by_numpy(queries: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """The overlaps query by query with NumPy's popcount, in blocks of 256 KiB, which stay in the processor's cache."""
    queries, stored = queries.view(np.uint64), stored.view(np.uint64)
    counts, rows = np.empty((len(queries), len(stored)), np.int64), max(1, 2**18 // (8 * stored.shape[1]))
    for start in range(0, len(stored), rows):
        block = stored[start : start + rows]
        for row, query in enumerate(queries):
            counts[row, start : start + rows] = np.bitwise_count(block & query).sum(axis=1, dtype=np.int64)
    return counts


def routing(stored: int = 7000, size: int = 14336, k: int = 4096) -> None:
    """Queries against stored masks at the paper's size, many at once and one alone; beside NumPy, in turns."""
    memory = ResidualMemory(size, 1, k, 0.4, torch.arange(size), torch.device("cpu"))
    memory.store(random_masks(stored, k, size, seed=0))
    memory.forget([5])
    packed = random_masks(64, k, size, seed=1)
    for queries in (64, 1):
        asked, took = packed[:queries], {"numpy": [], "ours": []}
        masks = tophash.unpack(asked, size)
        for _ in range(2 * PAIRS + 1):
            took["numpy"].append(seconds(lambda asked=asked: counts_by_numpy(asked, memory.masks)) / queries)
            took["ours"].append(seconds(lambda masks=masks: memory.route(masks)) / queries)
        own, ratio = median(took["ours"]), median(a / b for a, b in zip(*took.values(), strict=True))
        print(f"routing, {queries} at once: {own * 1e3:.2f} ms a query against {stored} masks at D = {size}, "
              f"{ratio:.1f}x faster than NumPy (bars, for 64: 0.5 and 4)")  # fmt: skip
    print(f"masks: {memory.masks.nbytes / 1e6:.1f} MB (bar: 30)")


def gate_against_masks(queries: int = 64, stored: int = 7000, size: int = 1536) -> None:
    """Routing by masks with the distinguishing words of stored prompts asked as well, against masks alone, in turns."""
    prompts = [record.prompt for record in memoir.load_records("openfacts")[:stored]]
    masks = np.random.default_rng(0).integers(0, 256, (len(prompts), size // 8), dtype=np.uint8)
    asked, look, ratios = masks[:queries], LexicalGate(0.4), []
    learnt = seconds(lambda: look.allowed(prompts[:1], prompts, masks))
    for _ in range(2 * PAIRS + 1):
        plain = seconds(lambda: overlap_counts(asked, masks))
        ratios.append((plain + seconds(lambda: look.allowed(prompts[:queries], prompts, masks))) / plain)
    print(f"lexical gate: routing takes {median(ratios[1:]):.2f} times as long with {len(prompts)} prompts (bar: 2); "
          f"{learnt:.1f} s to learn their words and neighbours once")  # fmt: skip


def packed_against_plain() -> None:
    """Edits with the tail's frozen maps packed for the processor, and without, in turns."""
    settings = memoir.settings("smollm2-135m") | dict(n_iter=STEPS, stop_loss=0.0)
    editor = memoir.Memoir(*memoir.load_model("smollm2-135m"), **settings)
    packed, ratios = editor._tail, []
    for _ in range(2 * PAIRS + 1):
        took = []
        for editor._tail in ({}, packed):
            editor.memory.weight.zero_()
            took.append(editor.edit(RECORD[0], "Lyon, by the river").seconds)
        ratios.append(took[0] / took[1])
    editor.detach()
    print(f"packed maps: {median(ratios[1:]):.2f}x faster than plain ones "
          f"(runs {', '.join(f'{r:.2f}' for r in sorted(ratios[1:]))})")  # fmt: skip


def wide_model():
    """Two random layers as wide as a model of 1.5 billion parameters has them: D = 8960, d = 1536."""
    config = AutoConfig.for_model(
        "llama", hidden_size=1536, intermediate_size=8960, num_hidden_layers=2, num_attention_heads=12,
        num_key_value_heads=2, vocab_size=49152, tie_word_embeddings=True, pad_token_id=2, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval(), memoir.load_model("smollm2-135m")[1]


def rls_against_sgd(what: str, model, tokenizer, **more) -> None:
    """Edits under recursive least squares and under plain descent, as many steps on each side, in turns."""
    options = memoir.settings("smollm2-135m") | dict(n_iter=STEPS, stop_loss=0.0, update="rls") | more
    editor = memoir.Memoir(model, tokenizer, **options)
    rls, ratios = editor.projector, []
    for _ in range(2 * PAIRS + 1):
        took = []
        for editor.projector in (rls, Identity()):
            editor.memory.weight.zero_()
            took.append(editor.edit(*USUAL).seconds)
        ratios.append(took[0] / took[1])
    editor.detach()
    print(f"rls at {what}, D = {editor.memory.size}: an edit takes {median(ratios[1:]):.3f} times as long as SGD's "
          f"(bar: 1.3; runs {', '.join(f'{r:.2f}' for r in sorted(ratios[1:]))})")  # fmt: skip


def batches_against_one_by_one(n: int = 48, size: int = 16) -> None:
    """Edits of OpenFacts `size` at once and one by one, each in a memory of its own, in turns; and what was learnt."""
    facts = memoir.load_records("openfacts")
    facts = facts[:: len(facts) // n][:n]  # of all relations
    for update in ("sgd", "rls"):
        options = memoir.settings("smollm2-135m") | {"update": update}
        took: dict[int, list[float]] = {1: [], size: []}
        editors = {batch: memoir.Memoir(*memoir.load_model("smollm2-135m"), **options) for batch in took}
        for start in range(0, n, size):
            for batch, editor in editors.items():
                results = editor.edit_all(facts[start : start + size], batch=batch)
                took[batch].append(sum(result.seconds for result in results))
        summaries = [memoir.summary(memoir.evaluate(editor, facts, generated=False)) for editor in editors.values()]
        one, many = (found.set_index("metric")["mean"]["reliability"] for found in summaries)
        ratios = [a / b for a, b in zip(*took.values(), strict=True)][1:]  # the first blocks warm up
        print(f"batches of {size}, {update}: {sum(took[1][1:]) / sum(took[size][1:]):.2f} times the edits a second "
              f"(bar: 1.8; runs {', '.join(f'{r:.2f}' for r in ratios)}); reliability "
              f"{many:.3f} against {one:.3f} one by one (bar: 0.01 apart)")  # fmt: skip


def evaluation_against_plain(n: int = 24, edits: int = 8) -> None:
    """Records' questions asked one by one, the untouched model each time as well, beside `evaluate`, in turns.

    `evaluate` asks as at every checkpoint of a stream but its first: the untouched model's answers are known by then.
    """
    facts = memoir.load_records("zsre", n)
    editor = memoir.Memoir(*memoir.load_model("smollm2-135m"), **memoir.settings("smollm2-135m"))
    editor.edit_all(facts[:edits])
    asked = [question for fact in facts for question in questions(fact)]

    def one_by_one(generated: bool) -> None:
        for metric, prompt, answer in asked:
            for within in (nullcontext, editor.base) if metric in LOCALITIES else (nullcontext,):
                with within():
                    editor.score(prompt, answer)
                    if generated:
                        editor.said([prompt], [answer])

    for generated in (False, True):
        ratios = []
        for _ in range(PAIRS + 1):
            plain = seconds(lambda generated=generated: one_by_one(generated))
            ratios.append(
                plain / seconds(lambda generated=generated: memoir.evaluate(editor, facts, generated=generated))
            )
        print(f"evaluation{', generated too' if generated else ''}: {median(ratios[1:]):.2f}x faster than question by "
              f"question (bar: 2; runs {', '.join(f'{r:.2f}' for r in ratios[1:])})")  # fmt: skip
    editor.detach()


def router_by_meaning(stored: int = 7000, asked: int = 200) -> None:
    """What the router by words and meaning adds to a question, where some edit may be meant and where none."""
    facts = memoir.load_records("openfacts", stored)
    edits = [(fact.prompt, fact.target) for fact in facts]
    router = Router("meaning", str, memoir.load_model("smollm2-135m")[1])
    router([facts[0].prompt], edits, [])  # reads the stored prompts
    took: dict[bool, list[float]] = {True: [], False: []}
    for question in [text for fact in facts[:asked] for text in (fact.rephrasings[0], fact.irrelevant) if text]:
        meant = router.best([question], edits, [])[0][0] is not None  # the candidates' embeddings are kept from here on
        took[meant].append(seconds(lambda question=question: router([question], edits, [])))
    some, none = (median(took[meant]) * 1e3 for meant in (True, False))
    print(f"router by meaning, {stored} edits: {some:.1f} ms a question with a candidate, {none:.2f} ms one without "
          "(bars: 8 and 0.3)")  # fmt: skip


def recommended_against_bare(n: int = 25) -> None:
    """Edits under the recommended settings and bare ones of the same update, each until it is learnt, in turns.

    The texts that stand before questions are read beforehand, as they are for all but the first edits of an editor.
    """
    facts = memoir.load_records("openfacts")
    facts = facts[:: len(facts) // n][:n]
    bare = memoir.settings("smollm2-135m") | {"update": "rls"}
    chosen = (memoir.settings("smollm2-135m", "recommended"), bare)
    editors = [memoir.Memoir(*memoir.load_model("smollm2-135m"), **options) for options in chosen]
    start = time.perf_counter()
    for draw in range(len(forms.BEHIND) * forms.TEXTS):
        editors[0]._ways([*editors[0]._forms.rows(facts[0].prompt, facts[0].target, (), draw)])
    reading = time.perf_counter() - start
    took = [[editor.edit(fact.prompt, fact.target).seconds for editor in editors] for fact in facts][1:]
    many, one = np.sum(took, axis=0)
    print(f"recommended: an edit takes {many / one:.2f} times as long as a bare one under rls (bar: 4; runs "
          f"{', '.join(f'{a / b:.1f}' for a, b in took)}); texts before questions, once: {reading:.0f} s")  # fmt: skip


def late_edits_against_the_hundredth(late: tuple[int, ...] = (1000, 7000), early: int = 100) -> None:
    """The time of one edit with many masks stored against that with a hundred, in turns."""
    editor = memoir.Memoir(*memoir.load_model("smollm2-135m"), **memoir.settings("smollm2-135m") | dict(n_iter=5))
    masks = np.random.default_rng(0).integers(0, 256, (max(late), editor.memory.size // 8), dtype=np.uint8)
    times = {n: [] for n in (early, *late)}
    for _ in range(2 * PAIRS + 1):
        for n, found in times.items():
            editor.memory.clear()
            editor.edits.clear()
            editor.memory.store(masks[:n])
            editor.memory.weight.zero_()
            found.append(editor.edit(*RECORD).seconds)
    editor.detach()
    for n in late:
        ratio = median(times[n][1:]) / median(times[early][1:])
        print(f"growth: edit {n} takes {ratio:.3f} times as long as edit {early} (bar: 1.15)")


if __name__ == "__main__":
    torch.manual_seed(0)
    routing()
    gate_against_masks()
    router_by_meaning()
    late_edits_against_the_hundredth()
    packed_against_plain()
    frozen_prefix_against_plain()
    recommended_against_bare()
    evaluation_against_plain()
    batches_against_one_by_one()
    rls_against_sgd("the default model", *memoir.load_model("smollm2-135m"))
    rls_against_sgd("two layers of random weights", *wide_model(), layer=0, k=2561)
