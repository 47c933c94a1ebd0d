"""What one can call an editor with: the right answer, or a sentence that names what was wrong, and nothing changed.

Each row of the tables is a call as a user would make it.
"""

import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import BACKGROUND, PREFIXES, toy_model
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from shelves import RECORDS

import memoir
from memoir import EditRecord, Memoir, Verbatim, load_records
from memoir.store import folder as store

P, Q, LOST = "Where is item 0 kept?", "Name a river", "half a pair: \ud800"
MADE = dict(layer=1, k=24, threshold=0.9, lr=1.0, n_iter=4, background=BACKGROUND, prefixes=PREFIXES)


@pytest.fixture(scope="module")
def editor(tokenizer):
    """A toy editor with two edits, to be asked and to be refused."""
    made = Memoir(toy_model(), tokenizer, **MADE)
    made.edit_all(RECORDS[:2])
    yield made
    made.detach()


@pytest.fixture(scope="module")
def saved(editor, tmp_path_factory):
    """Folders: one as `save` wrote it, and others that are damaged or of another kind."""
    root = tmp_path_factory.mktemp("saved")
    editor.save(root / "good")
    for name, change in {
        "newer": {"format": 99},
        "tokenizer": {"tokenizer": "0" * 64},
        "model": {"base_model": "0" * 64},
        "method": {"method": "wise"},
    }.items():
        tensors, header = store.read(root / "good")
        kept = {key: value for key, value in header.items() if key not in ("file", "sha256", "format")}
        store.write(root / name, tensors, kept | change)
        if "format" in change:
            path = root / name / store.HEADER
            content = json.loads(path.read_text()) | change
            del content["checksum"]
            path.write_text(json.dumps(content | {"checksum": store._checksum(content)}))
    (root / "empty").mkdir()
    (root / "list").mkdir()
    (root / "list" / store.HEADER).write_text("[1, 2]")
    return root


def fingerprint(editor: Memoir) -> str:
    """A hash of everything stored."""
    digest = hashlib.sha256(editor.memory.weight.numpy().tobytes() + editor.memory.masks.tobytes())
    digest.update(repr((editor.edits, editor.log, editor.memory.threshold, editor.memory.mu.tolist())).encode())
    return digest.hexdigest()


def record(**values) -> EditRecord:
    return EditRecord(**dict(id="r7", subject="item", prompt="Where is item 9 kept?", target="here") | values)


# the call · the exception · words of its message: the argument, and what was wrong with it or what to do
REFUSED = {
    "a prompt that is an int": (lambda e: e.edit(3, "x"), TypeError, "prompt must be a str, not the int 3"),
    "a prompt that is None": (lambda e: e.edit(None, "x"), TypeError, "prompt must be a str, not None"),
    "a prompt of bytes": (lambda e: e.edit(b"Who?", "x"), TypeError, "prompt must be a str, not a bytes"),
    "a prompt in a list": (lambda e: e.edit(["Who?"], "x"), TypeError, "prompt must be a str, not a list"),
    "a target that is NaN": (lambda e: e.edit("Who?", math.nan), TypeError, "target must be a str, not NaN.*pandas"),
    "a target that is pandas' NA": (lambda e: e.edit("Who?", pd.NA), TypeError, "target must be a str, not a NAType"),
    "a target that is a number": (lambda e: e.edit("Who?", 1.5), TypeError, "target must be a str, not the float 1.5"),
    "a target that is True": (lambda e: e.edit("Who?", True), TypeError, "target must be a str, not the bool True"),
    "a target that is a tensor": (lambda e: e.edit("Who?", torch.ones(2)), TypeError, "target must be a str"),
    "half a surrogate pair": (lambda e: e.edit(LOST, "x"), ValueError, "prompt.*not valid text.*character 13 .*surrog"),
    "half a pair in the target": (lambda e: e.edit("Who?", LOST), ValueError, "target.*not valid text"),
    "an empty prompt": (lambda e: e.edit("", "x"), ValueError, "prompt '' is empty"),
    "a prompt of spaces": (lambda e: e.edit(" \n ", "x"), ValueError, "prompt.*is empty"),
    "an empty target": (lambda e: e.edit("Who?", ""), ValueError, "target '' of 'Who\\?' has no tokens"),
    "a target of spaces": (lambda e: e.edit("Who?", "  "), ValueError, "has no tokens"),
    "a prompt over the context": (lambda e: e.edit("word " * 9000, "x"), ValueError, "the model's context holds"),
    "a target over the context": (lambda e: e.edit("Who?", "word " * 9000), ValueError, "the model's context holds"),
    "no target at all": (lambda e: e.edit("Who?"), TypeError, "target"),
    "generate with None": (lambda e: e.generate(None), TypeError, "prompts must be a list of str, not None"),
    "generate with an int": (lambda e: e.generate(7), TypeError, "prompts must be a list of str, not the int 7"),
    "generate with bytes": (lambda e: e.generate(b"x"), TypeError, "prompts must be a list of str, not a bytes"),
    "generate with a dict": (lambda e: e.generate({"a": 1}), TypeError, "prompts must be a list of str, not a dict"),
    "generate with a set": (lambda e: e.generate({"a"}), TypeError, "prompts must be a list of str, not a set"),
    "generate with one None": (lambda e: e.generate([P, None]), TypeError, r"prompts\[1\] must be a str, not None"),
    "generate with an empty prompt": (lambda e: e.generate([P, ""]), ValueError, "is empty"),
    "generate with half a pair": (lambda e: e.generate([LOST]), ValueError, r"prompts\[0\].*not valid text"),
    "no new tokens": (lambda e: e.generate(P, 0), ValueError, "max_new_tokens = 0.*at least 1"),
    "new tokens as text": (lambda e: e.generate(P, "8"), TypeError, "max_new_tokens must be a whole number"),
    "half a new token": (lambda e: e.generate(P, 1.5), TypeError, "max_new_tokens must be a whole number"),
    "score without targets": (lambda e: e.score([P], None), TypeError, "targets must be a list of str"),
    "score with too few targets": (lambda e: e.score([P, Q], ["x"]), ValueError, "prompts has 2 entries.*targets 1"),
    "score with a target of NaN": (lambda e: e.score([P], [math.nan]), TypeError, r"targets\[0\] must be .* not NaN"),
    "score an empty target": (lambda e: e.score(P, ""), ValueError, "has no tokens"),
    "route with None": (lambda e: e.route(None), TypeError, "prompts must be a list of str"),
    "route with a number inside": (lambda e: e.route([P, 4]), TypeError, r"prompts\[1\] must be a str, not the int 4"),
    "masks of a number": (lambda e: e.masks(4), TypeError, "prompts must be a list of str"),
    "features of None": (lambda e: e.features(None), TypeError, "prompts must be a list of str"),
    "calibrate with nothing": (lambda e: e.calibrate([]), ValueError, "needs some of both"),
    "calibrate with None": (lambda e: e.calibrate(None), TypeError, "irrelevant_prompts must be a list of str"),
    "calibrate with a number inside": (lambda e: e.calibrate([Q, 1]), TypeError, r"irrelevant_prompts\[1\]"),
    "calibrate at a rate of 2": (lambda e: e.calibrate([Q], 2), ValueError, "false_positive_rate = 2 is out of range"),
    "calibrate at NaN": (lambda e: e.calibrate([Q], math.nan), ValueError, "false_positive_rate = nan is not a finite"),
    "calibrate at a rate in words": (lambda e: e.calibrate([Q], "low"), TypeError, "false_positive_rate must be a num"),
    "calibrate against a number": (lambda e: e.calibrate([Q], against=3), TypeError, "against must be a list of str"),
    "a threshold of 1.5": (lambda e: e.memory.set_threshold(1.5), ValueError, "threshold = 1.5 is out of range"),
    "a threshold of None": (lambda e: e.memory.set_threshold(None), TypeError, "threshold must be a number, not None"),
    "forget what is not there": (lambda e: e.forget(2), ValueError, "numbered 0 to 1"),
    "forget counting from the end": (lambda e: e.forget(-1), ValueError, "numbered 0 to 1"),
    "forget a text": (lambda e: e.forget("0"), TypeError, "edit must be a whole number, not a str"),
    "forget True": (lambda e: e.forget(True), TypeError, "edit must be a whole number, not the bool True"),
    "records that are one record": (lambda e: e.edit_all(RECORDS[0]), TypeError, "records must be a list of EditRec"),
    "records that are a text": (lambda e: e.edit_all("records"), TypeError, "records must be a list of EditRecord"),
    "records that are dicts": (lambda e: e.edit_all([{"prompt": P}]), TypeError, r"records\[0\] must be an EditRecord"),
    "a record without a target": (
        lambda e: e.edit_all([RECORDS[5], record(target=None)]),
        TypeError,
        r"records\[1\] \(id r7\), reliability: target must be a str, not None",
    ),
    "a record with an empty target": (
        lambda e: e.edit_all([RECORDS[5], record(target=" ")]),
        ValueError,
        r"records\[1\] \(id r7\): The target ' ' .* has no tokens",
    ),
    "a rephrasing that is NaN": (
        lambda e: e.edit_all([record(rephrasings=("How?", math.nan))]),
        TypeError,
        r"records\[0\] \(id r7\), generalization: prompt must be a str, not NaN",
    ),
    "an irrelevant question without an answer": (
        lambda e: e.edit_all([record(irrelevant="How?")]),
        TypeError,
        r"\(id r7\), locality: target must be a str, not None",
    ),
    "checkpoints every 0 edits": (lambda e: e.edit_all([], every=0), ValueError, "every = 0 .* at least 1"),
    "a checkpoint that is a number": (lambda e: e.edit_all([], checkpoint=3), TypeError, "checkpoint must be a path"),
    "save to None": (lambda e: e.save(None), TypeError, "folder must be a path, not None"),
    "save to a null character": (lambda e: e.save("a\0b"), ValueError, "folder.*null character"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_call_is_refused_by_name_and_changes_nothing(editor, case):
    call, error, words = REFUSED[case]
    before = fingerprint(editor)
    with pytest.raises(error, match=words) as refusal:
        call(editor)
    assert refusal.type in (TypeError, ValueError)
    assert fingerprint(editor) == before


# a folder, what is loaded onto · the exception · words
LOADED = {
    "a folder that is not there": ("nowhere", None, FileNotFoundError, "nowhere holds no saved memory.*memoir.json"),
    "an empty folder": ("empty", None, FileNotFoundError, "holds no saved memory"),
    "a header that is a list": ("list", None, ValueError, "damaged and was not loaded"),
    "a newer format": ("newer", None, ValueError, "format 99; this memoir reads up to 2. Use a newer one"),
    "another base model": (
        "model",
        None,
        ValueError,
        "saved with the base_model .*Llama.*0000.*; here it is .*[0-9a-f]{64}. Edits",
    ),
    "another tokenizer": (
        "tokenizer",
        None,
        ValueError,
        "saved with the tokenizer .*tokens.*0000.*; here it is .*49,152 tokens",
    ),
    "another method": ("method", None, ValueError, "saved with the method wise; here it is memoir"),
    "a model with other weights": ("good", lambda m: toy_model(seed=1), ValueError, "saved with the base_model"),
    "a model of another dtype": ("good", lambda m: toy_model().bfloat16(), ValueError, "saved with the base_model"),
    "no model": ("good", lambda m: None, TypeError, "model must be a language model of transformers, not NoneType"),
    "a model that is a name": ("good", lambda m: "smollm2", TypeError, "model must be .* not str.*memoir.load_model"),
}


@pytest.mark.parametrize("case", LOADED)
def test_what_cannot_be_loaded_says_why_and_leaves_the_model_alone(tokenizer, saved, case):
    folder, onto, error, words = LOADED[case]
    model = toy_model()
    model = onto(model) if onto else model
    with pytest.raises(error, match=words):
        Memoir.load(saved / folder, model, tokenizer)
    assert not hasattr(model, "__dict__") or "generate" not in vars(model)


def test_no_path_is_no_path(tokenizer):
    for path in (None, 3, b"x", "", ["a"]):
        with pytest.raises(TypeError, match="folder must be a path"):
            Memoir.load(path, toy_model(), tokenizer)


# how an editor is made · the exception · words
MAKINGS = {
    "an unknown setting": (dict(lrr=1.0), TypeError, "no setting 'lrr'. Did you mean lr"),
    "a layer in words": (dict(layer="last"), TypeError, "layer must be a whole number, not a str"),
    "a layer that is not there": (dict(layer=4), ValueError, "layer = 4 is out of range.*layers 0 to 3"),
    "k as a share": (dict(k=0.29), TypeError, "k must be a whole number, not the float 0.29"),
    "no ones in a mask": (dict(k=0), ValueError, "k = 0 is out of range: it must be at least 1"),
    "a threshold of NaN": (dict(threshold=math.nan), ValueError, "threshold = nan is not a finite number"),
    "a negative rate": (dict(lr=-1.0), ValueError, "lr = -1.0 is out of range"),
    "a rate of 0": (dict(lr=0), ValueError, "lr = 0 learns nothing"),
    "half a step": (dict(n_iter=1.5), TypeError, "n_iter must be a whole number"),
    "a seed in words": (dict(seed="x"), TypeError, "seed must be a whole number"),
    "prefixes that are one text": (dict(prefixes="I think"), TypeError, "prefixes must be a list of str"),
    "a background of numbers": (dict(background=[1, 2]), TypeError, r"background\[0\] must be a str"),
    "a share of words of 2": (dict(sigma=2), ValueError, "sigma = 2 is out of range"),
    "an update that there is not": (dict(update="adam"), ValueError, "update = 'adam' is unknown"),
    "no layer, and no such model": (dict(layer=None), ValueError, "layer must be given.*notebook 03"),
}  # fmt: skip


@pytest.mark.parametrize("case", MAKINGS)
def test_an_editor_that_cannot_be_made_says_why(tokenizer, case):
    change, error, words = MAKINGS[case]
    model = toy_model()
    with pytest.raises(error, match=words):
        Memoir(model, tokenizer, **MADE | change)
    assert "generate" not in vars(model) and "forward" not in vars(model.base_model)


# what is right however it is asked
SAME = {
    "one prompt, one answer": lambda e: e.generate(P) == e.generate([P])[0],
    "a tuple": lambda e: e.generate((P, Q)) == e.generate([P, Q]),
    "a generator": lambda e: e.generate(p for p in (P, Q)) == e.generate([P, Q]),
    "a column of a table": lambda e: e.generate(pd.Series([P, Q])) == e.generate([P, Q]),
    "an array": lambda e: e.generate(np.array([P, Q])) == e.generate([P, Q]),
    "no prompts": lambda e: e.generate([]) == [] and e.score([], []) == [] and e.route([]) == [],
    "one prompt routed": lambda e: e.route(P) == e.route([P])[0] and e.route(P).edit == 0,
    "one prompt scored": lambda e: torch.equal(e.score(P, "x").log_probs, e.score([P], ["x"])[0].log_probs),
    "one mask": lambda e: torch.equal(e.masks(P), e.masks([P])),
    "spaces at the end": lambda e: e.generate(P + "  ") == e.generate(P) and e.route(P + "\t").overlap == 1,
    "a line break is kept": lambda e: e.route(P + "\n").overlap < 1,
    "calibrated against one text": lambda e: 0 <= _calibrated(e, Q) <= 1,
    "emoji and Chinese": lambda e: len(e.generate(["🦊 东京在哪里？", "naïve café"])) == 2,
}


def _calibrated(editor, prompt):
    before = editor.memory.threshold
    try:
        return editor.calibrate(prompt, 0.5)
    finally:
        editor.memory.set_threshold(before)


@pytest.mark.parametrize("case", SAME)
def test_however_it_is_asked_the_answer_is_the_same(editor, case):
    before = fingerprint(editor)
    assert SAME[case](editor)
    assert fingerprint(editor) == before


def test_there_are_eighty_cases():
    wrapped = 25  # `test_rows.py`
    assert len(REFUSED) + len(LOADED) + len(MAKINGS) + len(SAME) + wrapped >= 80


# ------------------------------------------------------------------------------------- any value, anywhere

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), st.complex_numbers(), st.binary(max_size=4),
    st.text(st.characters(categories=("Cs", "Zs", "Zl")), max_size=4), st.sampled_from([object(), int, pd.NA]),
    st.lists(st.one_of(st.none(), st.integers(), st.binary(max_size=2)), min_size=1, max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=2), st.sets(st.text(max_size=2), max_size=2),
    st.just(np.arange(3)), st.just(torch.ones(2)),
)  # fmt: skip
CALLS = {
    "edit": lambda e, a, b: e.edit(a, b),
    "score": lambda e, a, b: e.score(a, b),
    "generate": lambda e, a, b: e.generate(a, b),
    "route": lambda e, a, b: e.route(a),
    "calibrate": lambda e, a, b: e.calibrate(a, b),
    "forget": lambda e, a, b: e.forget(a),
    "load": lambda e, a, b: Memoir.load(a, e.model, e.tokenizer),
}


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(call=st.sampled_from(sorted(CALLS)), first=ODD, second=ODD)
def test_a_thousand_malformed_inputs_change_nothing(editor, call, first, second):
    assume(call != "forget" or type(first) is not int or first not in (0, 1))  # these there are
    before = fingerprint(editor)
    try:
        CALLS[call](editor, first, second)
    except (TypeError, ValueError) as error:
        assert len(str(error)) > 20 and str(error).rstrip().endswith((".", ")")), f"no sentence: {error!r}"
        assert fingerprint(editor) == before
    else:
        if call in ("edit", "forget"):
            pytest.fail(f"{call}({first!r}, {second!r}) was taken")


# ------------------------------------------------------------------------------------- what was silent


def test_a_model_of_the_registry_needs_no_settings(smollm2):
    editor = Memoir(*smollm2)
    try:
        assert memoir.settings("smollm2-135m").items() <= editor._settings().items()
        assert editor.edit("The capital of France is", "Lyon").learnt
        assert editor.generate("The capital of France is", 1) == " Lyon"
    finally:
        editor.detach()


def test_a_target_that_is_not_learnt_is_reported(toy_editor):
    editor = toy_editor()
    with pytest.warns(UserWarning, match="'Lyon' was not learnt as the answer to 'Where\\?': the loss is"):
        result = editor.edit("Where?", "Lyon")
    assert not result.learnt and result.loss == result.losses[-1]
    with pytest.warns(UserWarning, match=r"3 of 3 edits were not learnt \(0, 1, 2\): see edits_table"):
        editor.edit_all(RECORDS[:3])
    assert editor.edits_table().learnt.tolist() == [False] * 4


def test_two_records_of_one_prompt_are_reported(toy_editor):
    editor = toy_editor()
    twice = [RECORDS[0], RECORDS[1], record(prompt=P, target="on shelf 99")]
    with pytest.warns(UserWarning, match="1 of 3 edits replaced an earlier edit of the same prompt"):
        results = editor.edit_all(twice)
    assert [result.replaces for result in results] == [None, None, 0]
    assert editor.edits_table().replaces.tolist() == [pd.NA, pd.NA, 0] and editor.route(P).edit == 2


@pytest.mark.parametrize(("prompt", "target", "together"), [
    ("The ticket costs $", Verbatim("75"), "The ticket costs $75"),
    ("The dog", Verbatim("'s"), "The dog's"),
    ("The function\n\n```python\n", "import os", "The function\n\n```python\nimport os"),
    ("A list:", "\n- one", "A list:\n- one"),
    ("The capital is", " Lyon", "The capital is Lyon"),
    ("The capital is  ", "Lyon", "The capital is Lyon"),
])  # fmt: skip
def test_a_target_follows_as_it_was_meant(toy_editor, tokenizer, prompt, target, together, tmp_path):
    editor = toy_editor(lr=4.0, n_iter=40, prefixes=(), weight_decay=0.0)
    editor.edit(prompt, target)
    ids = tokenizer(prompt.rstrip(" "), return_tensors="pt")
    n = len(tokenizer(together).input_ids) - ids.input_ids.shape[1]
    plain = tokenizer.decode(editor.model.generate(**ids, max_new_tokens=n, do_sample=False)[0])
    assert plain == together == prompt.rstrip(" ") + editor.generate(prompt, n)
    editor.save(tmp_path)
    editor.detach()
    again = Memoir.load(tmp_path, editor.model, tokenizer)
    assert type(again.edits[0].target) is type(target) and again.edits == editor.edits
    again.detach()


def test_an_odd_space_is_reported(toy_editor):
    with pytest.warns(UserWarning, match=r"A space was put between 'The ticket costs \$' and '75'.*Verbatim"):
        toy_editor().edit("The ticket costs $", "75")


def test_names_that_there_are_not_get_the_nearest_three():
    with pytest.raises(ValueError, match="no model 'smolm2'. Did you mean smollm2-135m"):
        memoir.settings("smolm2")
    with pytest.raises(ValueError, match="no data set 'opnfacts'. Did you mean openfacts or "):
        load_records("opnfacts")


def test_a_state_of_before_the_format_had_a_number_is_read(editor, saved, tokenizer):
    tensors, header = store.read(saved / "good")
    old = {key: value for key, value in header.items() if key not in ("file", "sha256", "format", "tokenizer", "begun")}
    store.write(saved / "old", tensors, old | {"edits": [edit[:2] for edit in header["edits"]]})
    content = json.loads((saved / "old" / store.HEADER).read_text())
    del content["format"], content["checksum"]
    (saved / "old" / store.HEADER).write_text(json.dumps(content | {"checksum": store._checksum(content)}))
    again = Memoir.load(saved / "old", toy_model(), tokenizer)
    assert again.edits == editor.edits and again.generate([P, Q]) == editor.generate([P, Q])


def test_records_fed_twice_are_written_once(toy_editor, tmp_path):
    editor = toy_editor()
    editor.edit_all(RECORDS[:4], checkpoint=tmp_path / "run", every=2)
    assert editor.edit_all(RECORDS[:4], checkpoint=tmp_path / "run") == [] and len(editor.edits) == 4
    assert len(toy_editor().edit_all(RECORDS[:6], checkpoint=tmp_path / "run")) == 2
    assert len(editor.edit_all(RECORDS[4:7], checkpoint=tmp_path / "other")) == 3 and len(editor.edits) == 7
