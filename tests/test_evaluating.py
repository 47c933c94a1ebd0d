"""Under lm-evaluation-harness an edited model is asked as by its editor, whatever the batch and the padding."""

import sys
import warnings

import pytest
import torch

import memoir

FACTS = memoir.load_records("openfacts", 10)
SIZES = [1, 4]


@pytest.fixture(scope="module")
def edited(smollm2):
    """The real model with edits of the first three of ten facts."""
    settings = memoir.settings("smollm2-135m") | dict(n_iter=20, prefixes=())
    editor = memoir.Memoir(*smollm2, **settings)
    editor.edit_all(FACTS[:3])
    yield editor
    editor.detach()


def instances(kind: str, arguments: list[tuple]) -> list:
    api = pytest.importorskip("lm_eval.api.instance")
    return [api.Instance(kind, {}, one, i) for i, one in enumerate(arguments)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("size", SIZES)
def test_the_harness_asks_as_the_editor_does_one_by_one(edited, size, side):
    pytest.importorskip("lm_eval")
    harness = memoir.evaluating(edited, batch_size=size)
    harness.tokenizer.padding_side = side
    asked = [(fact.prompt, f" {answer}") for fact in FACTS for answer in (fact.target, fact.truths[0])]
    found = harness.loglikelihood(instances("loglikelihood", asked), disable_tqdm=True)
    for (prompt, answer), (log_p, greedy) in zip(asked, found, strict=True):
        alone = edited.score(prompt, answer.strip())
        assert log_p == pytest.approx(alone.log_probs.sum().item(), abs=1e-4 * len(alone.target) + 1e-4)
        assert greedy == alone.target.equal(alone.argmax)
    assert all(greedy for _, greedy in found[:6:2]), "what was edited is said"
    until = {"until": ["\n"], "max_gen_toks": 6, "do_sample": False}
    said = harness.generate_until(instances("generate_until", [(fact.prompt, until) for fact in FACTS]), True)
    ends = harness.tokenizer.decode(harness.eot_token_id)
    for fact, text in zip(FACTS, said, strict=True):
        alone = edited.generate(fact.prompt, max_new_tokens=6)
        assert text == alone.partition("\n")[0].partition(ends)[0]


def test_what_has_no_context_asks_nothing_and_long_texts_are_cut_from_the_front(edited):
    pytest.importorskip("lm_eval")
    harness = memoir.evaluating(edited, batch_size=4)
    text = f"{FACTS[0].prompt} {FACTS[0].target}"
    (rolled,) = harness.loglikelihood_rolling(instances("loglikelihood_rolling", [(text,)]), disable_tqdm=True)
    ((log_p, _),) = harness.loglikelihood(instances("loglikelihood", [("", text)]), disable_tqdm=True)
    with edited.base(), torch.no_grad():
        ids = torch.tensor([[harness.prefix_token_id, *harness.tok_encode(text)]])
        log_probs = edited.model(input_ids=ids).logits.log_softmax(dim=-1)
    expected = log_probs[0, :-1].gather(1, ids[0, 1:, None]).sum().item()
    assert rolled == pytest.approx(expected, abs=1e-3) and log_p == pytest.approx(expected, abs=1e-3)
    assert memoir.harness._cut([1, 2, 3, 4], [5, 6], 4) == ([3, 4], [5, 6])
    assert memoir.harness._cut([0, 1], [2, 3, 4, 5], 3) == ([1], [4, 5])


def test_without_the_harness_it_is_said_how_to_have_it(edited, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    with pytest.raises(ModuleNotFoundError, match="pip install lm-eval"):
        memoir.evaluating(edited)


def test_rows_without_a_mask_or_an_end_of_their_prompts_are_warned_of_once(edited):
    ids = edited.tokenizer([FACTS[0].prompt, FACTS[1].prompt], padding=True, return_tensors="pt")
    with pytest.warns(UserWarning, match="attention_mask.*memoir.evaluating"):
        edited.model(input_ids=ids.input_ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edited.model(input_ids=ids.input_ids)
        edited.model(**ids)
        edited.model(input_ids=ids.input_ids[:1])
        edited.generate([FACTS[0].prompt, FACTS[1].prompt])
