"""Short traces of what the method does, on a toy model: masks, edits, routes; `python tests/golden.py` writes them.

Written with the numbers of `memoir.BEHAVIOUR` that they were made under, so that a trace that moved tells which rule's
number is to be raised.
"""

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from conftest import BACKGROUND, PREFIXES, toy_model

import memoir
from memoir import tophash, update
from memoir.memory import ResidualMemory

GOLDEN = Path(__file__).with_name("golden.json")
# another processor sums in another order; what a rule changes is larger by far
CLOSE = 0.01
FACTS = (("The mill is owned by", "Otto"), ("Seven boats carry", "lemons and salt"), ("Nobody sings before", "noon"))
ASKED = ("The mill is owned by", "Who owns the mill?", "Seven boats carry", "Boats carry", "A hat lies on the table.")
DEFAULT = dict(layer=1, k=24, threshold=0.3, lr=20.0, n_iter=12, background=BACKGROUND, prefixes=PREFIXES)
PLAIN = DEFAULT | dict(weight_decay=1e-3, stop_loss=10.4, stop_change=None)
RLS = dict(update="rls", ridge=0.5, weight_decay=0.0)
CHAT = dict(span="question", formats=("cue", "context"), end=True)
# a trace's name: the rules that it shows, the editor's settings, how many edits are written at once
EDITED = {
    "sgd": (("sgd", "rows", "mask", "routing", "ending"), PLAIN, 1),
    "sgd, until it hardly moves": (("ending", "sgd"), PLAIN | dict(stop_loss=10.7, stop_change=0.03), 1),
    "sgd, jointly": (("sgd", "rows", "ending"), PLAIN, 3),
    "rls": (("rls",), PLAIN | RLS, 1),
    "rls, by rank": (("rls",), PLAIN | RLS | dict(rank=6), 1),
    "rls, jointly": (("rls",), PLAIN | RLS, 3),
    "ways of asking": (("rows", "ending", "routing"), PLAIN | CHAT | dict(n_iter=20), 1),
    "routed by words": (("routing",), PLAIN | dict(span="question", router="words"), 1),
    "gated by words": (("routing",), PLAIN | dict(sigma=0.5), 1),
}  # fmt: skip
# the same three writes of made-up keys, which share a massive activation, down gradients that are clipped
WRITTEN = {"writes, sgd": ("sgd", None), "writes, rls": ("rls", None), "writes, rls by rank": ("rls", 5)}
RULES = (
    {"masks": ("mask",), "ties": ("routing",)}
    | {name: (rule,) for name, (rule, _) in WRITTEN.items()}
    | {name: rules for name, (rules, *_) in EDITED.items()}
)


def masks() -> dict:
    """TopHash of features with ties, and the feature of some positions: the places of the ones."""
    drawn = np.random.default_rng(0)
    features = torch.from_numpy(drawn.integers(-4, 5, (4, 24)).astype(np.float32))
    activations = torch.from_numpy(drawn.integers(-4, 5, (2, 5, 24)).astype(np.float32))
    memory = ResidualMemory(24, 4, 6, 0.5, tophash.random_permutation(24, 3), torch.device("cpu"))
    memory.mu.copy_(features.mean(dim=0))
    positions = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]]).bool()
    found = torch.cat([memory.mask_of_features(features), memory.mask_of(activations, positions)])
    return {"ones": [row.nonzero()[:, 0].tolist() for row in found]}


def ties() -> dict:
    """Which of equal stored masks answers, which of unequal ones, and none below τ."""
    memory = ResidualMemory(16, 4, 4, 0.5, torch.arange(16), torch.device("cpu"))
    stored = torch.zeros(4, 16, dtype=torch.bool)
    for row, ones in enumerate(([0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 8, 9], [12, 13, 14, 15])):
        stored[row, ones] = True
    memory.store(tophash.pack(stored))
    memory.forget([3])
    asked = torch.zeros(4, 16, dtype=torch.bool)
    for row, ones in enumerate(([0, 1, 2, 3], [0, 1, 8, 10], [0, 4, 5, 6], [12, 13, 14, 15])):
        asked[row, ones] = True
    return {"routes": [[route.edit, route.overlap] for route in memory.route(asked)]}


def written(rule: str, rank: int | None) -> dict:
    """What the steps of three edits make of W_m, and what P then leaves of their keys."""
    drawn, size = np.random.default_rng(0), 20
    weight = torch.zeros(3, size)
    p = update.projector(rule, size, 0.5, rank, weight.device)
    moved, stored = [], []
    for _ in range(3):
        keys = torch.from_numpy(drawn.normal(size=(2, 8)).astype(np.float32))
        keys[:, 0] += 9.0
        mask = torch.zeros(size, dtype=torch.bool)
        mask[[0, *drawn.choice(np.arange(1, size), 7, replace=False)]] = True
        write = update.DualUpdate(p, weight, [(keys, mask)], 0.3, 0.0 if rule == "rls" else 1e-2)
        for _ in range(4):
            gradient = torch.from_numpy(drawn.normal(size=(2, 3)).astype(np.float32))
            gradient[0] *= drawn.choice([0.05, 1.0, 4.0])
            write.step(gradient - gradient.mean(dim=0) * drawn.choice([0.0, 1.0]))
            moved.append(write.outputs.norm().item())
        write.store()
        stored.append((keys, mask))
    return {"outputs": moved, "norm": weight.norm().item(), "left": [p.through(*one).norm().item() for one in stored]}


def edited(tokenizer, settings: dict, batch: int) -> dict:
    """Losses and steps of the edits, the norm of W_m, and who answers what."""
    editor = memoir.Memoir(toy_model(), tokenizer, **settings)
    records = [memoir.EditRecord(str(i), target, prompt, target) for i, (prompt, target) in enumerate(FACTS)]
    editor.edit_all(records, batch=batch)
    routes = editor.route(ASKED)
    about = [{"steps": row["steps"], "lowered": row["first_loss"] - row["last_loss"]} for row in editor.log]
    editor.detach()
    return {
        "edits": about,
        "norm": editor.memory.weight.norm().item(),
        "routes": [route.edit for route in routes],
        "overlaps": [route.overlap for route in routes],
    }


def traced(tokenizer, names=tuple(RULES)) -> dict[str, dict]:
    """Some of the traces by name."""
    own = {"masks": masks, "ties": ties} | {name: partial(written, *how) for name, how in WRITTEN.items()}
    return {name: own[name]() if name in own else edited(tokenizer, *EDITED[name][1:]) for name in names}


def differences(found: dict, golden: dict) -> list[str]:
    """The traces that moved, each with what moved in it."""
    return [f"{name}: {', '.join(moved)}" for name in found if (moved := [*_moved(found[name], golden[name])])]


def _moved(found: object, golden: object, place: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(golden, dict) and found.keys() == golden.keys():
        for name in found:
            yield from _moved(found[name], golden[name], f"{place}.{name}".strip("."))
    elif isinstance(found, list) and isinstance(golden, list) and len(found) == len(golden):
        for i, (one, other) in enumerate(zip(found, golden, strict=True)):
            yield from _moved(one, other, f"{place}[{i}]")
    elif place.startswith("overlaps"):
        if abs(found - golden) > 0.1:  # a place or two of a mask lie on another processor's last digit
            yield f"{place} {golden} → {found}"
    elif isinstance(found, float) and isinstance(golden, float):
        if not math.isclose(found, golden, rel_tol=CLOSE):
            yield f"{place} {golden:.5g} → {found:.5g}"
    elif found != golden:
        yield f"{place} {golden} → {found}"


def write() -> None:
    """Write the traces of today's code under today's numbers."""
    _, tokenizer = memoir.load_model("smollm2-135m")
    content = {"behaviour": memoir.BEHAVIOUR, "traces": traced(tokenizer)}
    GOLDEN.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    write()
