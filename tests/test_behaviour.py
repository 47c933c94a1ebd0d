"""A rule that is changed raises its number: traces of today's code are those that were kept, or a number moved."""

import json
from dataclasses import replace

import golden
import pytest
import torch

import memoir
from memoir import tophash, update, write
from memoir.memory import ResidualMemory, Route

KEPT = json.loads(golden.GOLDEN.read_text("utf-8"))


def test_no_rule_changed_without_its_number(tokenizer):
    assert KEPT["behaviour"] == memoir.BEHAVIOUR, "write the traces of the new numbers: python tests/golden.py"
    moved = golden.differences(golden.traced(tokenizer), KEPT["traces"])
    rules = sorted({rule for line in moved for rule in golden.RULES[line.partition(":")[0]]})
    assert not moved, f"the method does something else; raise in memoir/behaviour.py what changed of {rules}"


def signed(features, k, permutation):
    """TopHash of the largest numbers, where it should be of those largest in size."""
    return torch.zeros(features.shape, dtype=torch.bool).scatter_(1, permutation[features.topk(k).indices], True)


def first_of_equals(route):
    def routed(self, masks, allowed=None):
        counts = tophash.overlap_counts(tophash.pack(masks), self.masks)
        counts[:, self.forgotten] = -1
        best = [(int(row.argmax()), int(row.max())) for row in counts]
        return [Route(i if n / self.k >= self.threshold else None, max(n, 0) / self.k) for i, n in best]

    return routed


# a planted change: the rule, the trace that shows it, and what is patched with what
PLANTED = {
    "TopHash takes numbers with their sign": ("mask", "masks", tophash, "top_hash", lambda _: signed),
    "μ is not taken off": (
        "mask", "masks", ResidualMemory, "mask_of_features",
        lambda _: lambda self, features: tophash.top_hash(features, self.k, self.permutation),
    ),
    "the gradient is not clipped": ("sgd", "writes, sgd", update, "GRADIENT_NORM", lambda _: 1e9),
    "a clip of two": ("sgd", "writes, sgd", update, "GRADIENT_NORM", lambda norm: 2 * norm),
    "nothing decays": (
        "sgd", "sgd", update.DualUpdate, "__init__",
        lambda made: lambda self, p, weight, edits, lr, _: made(self, p, weight, edits, lr, 0.0),
    ),
    "P does not take in the keys": ("rls", "writes, rls", update.Dense, "add", lambda _: lambda *_: None),
    "P of low rank forgets its first keys": (
        "rls", "writes, rls by rank", update.LowRank, "add", lambda add: lambda self, *keys: (
            setattr(self, "directions", self.directions[:, :0]), setattr(self, "energy", self.energy[:0]),
            add(self, *keys)),
    ),
    "a step of rls is not bounded": ("rls", "writes, rls", update, "LONGEST", lambda _: 1e9),
    "a bound of three": ("rls", "writes, rls", update, "LONGEST", lambda bound: 1.5 * bound),
    "the first of equal masks answers": ("routing", "ties", ResidualMemory, "route", first_of_equals),
    "an edit ends however much it moves": (
        "ending", "sgd, until it hardly moves", write._Progress, "settles",
        lambda settles: lambda self, loss, config: settles(self, loss, replace(config, stop_change=None)),
    ),
    "an edit ends a little later": (
        "ending", "sgd", write._Progress, "settles",
        lambda settles: lambda self, loss, config: settles(self, loss, replace(config, stop_loss=10.3)),
    ),
    "the first way of asking alone is learnt": (
        "rows", "ways of asking", write._Progress, "worst", lambda _: lambda _: 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_a_changed_rule_moves_a_trace(tokenizer, monkeypatch, planted):
    rule, trace, where, name, patched = PLANTED[planted]
    assert rule in golden.RULES[trace]
    monkeypatch.setattr(where, name, patched(getattr(where, name)))
    assert golden.differences(golden.traced(tokenizer, [trace]), KEPT["traces"])


def test_a_last_digit_moves_none(tokenizer):
    """What another processor's order of sums does: every step is off by a millionth."""
    step = update.DualUpdate.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update.DualUpdate, "step", lambda self, gradient: step(self, gradient * (1 + 1e-6)))
        assert golden.differences(golden.traced(tokenizer), KEPT["traces"]) == []


def test_the_numbers_of_an_editor_are_those_of_its_own_update():
    numbers = memoir.behaviour.behaviour("rls")
    assert numbers["rls"] == memoir.BEHAVIOUR["rls"] and "sgd" not in numbers and "mask" in numbers
