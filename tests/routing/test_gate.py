"""The lexical gate: which stored edits may answer a question, by the words that tell them from their neighbours."""

import numpy as np
import pytest
import torch
from planted_records import RECORDS

import memoir
from memoir import tophash
from memoir.routing import gate


def test_neighbours_are_followed_as_edits_come_and_go():
    rng = np.random.default_rng(0)
    masks = tophash.pack(torch.from_numpy(rng.random((40, 64)) < 0.4))
    prompts = [f"{i % 7} and {i % 5} of {i}" for i in range(40)]
    followed = gate.LexicalGate(0.5)
    for n in (1, 2, 3, 5, 17, 40):
        followed.allowed(["1"], prompts[:n], masks[:n])
    masks[4] = 0  # forgotten
    for these in (masks, masks[:20], masks):  # and another state is loaded
        seen = followed.allowed(prompts, prompts[: len(these)], these)
        counts = tophash.overlap_counts(these, these)
        counts[:, ~these.any(1)] = -1
        counts[np.arange(len(these)), np.arange(len(these))] = -1
        nearest = np.argsort(-counts, axis=1, kind="stable")[:, : gate.NEAREST]
        expected = gate.DistinguishingWords(prompts[: len(these)], nearest).shares(prompts) >= 0.5 - 1e-9
        assert (seen == expected).all() and seen[: len(these)].diagonal().all()


def test_the_lexical_gate_is_an_option_of_the_editor_that_keeps_it(toy_editor, tmp_path):
    plain, editor = toy_editor(threshold=0.0), toy_editor(threshold=0.0, sigma=0.5)
    assert editor.route([RECORDS[0].prompt]) == plain.route([RECORDS[0].prompt])  # nothing is stored
    for record in RECORDS[:4]:
        plain.edit(record.prompt, record.target)
        editor.edit(record.prompt, record.target)
    assert torch.equal(plain.memory.weight, editor.memory.weight)  # it routes otherwise and writes the same
    prompts = [record.prompt for record in RECORDS[:4]]
    foreign = "Quux frob zyzzy"
    asked = [*prompts, RECORDS[0].rephrasings[0], foreign]
    assert [route.edit for route in editor.route(asked)] == [0, 1, 2, 3, 0, None]
    assert plain.route([foreign])[0].edit is not None
    target = RECORDS[0].target
    scores = editor.score(asked, [target] * len(asked))
    assert [score.route.edit for score in scores] == [0, 1, 2, 3, 0, None]
    with editor.base():
        assert torch.equal(editor.score([foreign], [target])[0].log_probs, scores[-1].log_probs)
    assert editor.generate(prompts, 2, min_new_tokens=2) == plain.generate(prompts, 2, min_new_tokens=2)
    editor.forget(0)
    assert editor.route(prompts[:1])[0].edit != 0
    editor.save(tmp_path)
    ids = editor.tokenizer(prompts[0], return_tensors="pt").input_ids
    with pytest.raises(ValueError, match="inputs_embeds"):
        editor.model(inputs_embeds=editor.model.get_input_embeddings()(ids))
    editor.detach()
    again = memoir.Memoir.load(tmp_path, editor.model, editor.tokenizer)
    assert [route.edit for route in again.route(asked[1:4])] == [1, 2, 3] and again.route([foreign])[0].edit is None
    with pytest.raises(ValueError, match="sigma = 1.5 is out of range"):
        toy_editor(sigma=1.5)
