"""Asked as people ask: the WILD protocol (arXiv 2502.11177), conversations, questions behind other text.

The protocol asks a question alone, behind an instruction, or in the chat template, generates greedily up to 50 tokens
and reads the answer up to its natural end: a full stop, a line break, or the end of the turn. An answer is right where
it reads as the target after normalisation; whether it begins with the target is told beside. Methods need not route.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import cast

import pandas as pd
import torch
from transformers import DynamicCache, PreTrainedTokenizerBase

from memoir import metrics
from memoir.chat.question import sentences
from memoir.chat.template import Message, rendered_ids, turn
from memoir.checks.places import DATA
from memoir.edited import EditedModel
from memoir.evaluation import way
from memoir.facts.record import EditRecord
from memoir.queryable import Score

TOKENS, COMPARED = 50, 20  # at most so many are generated; so many of the answer to an irrelevant question are compared
FIRST = 12  # tokens after which most answers have ended: the others are generated again, by themselves
INSTRUCTION = "Please answer the question:\n\nQ: {}\nA:"
TEXT = DATA / "ability" / "text.txt"  # whose sentences stand before questions; none is a context of `formats.py`
DOCUMENT = 1000  # tokens before the question
STOPS = re.compile(r"[.\n]")
CACHED = 2  # of so many conversations one is asked with its earlier turns in a cache too: one by one
SELDOM = 4  # one record of so many is asked where asking takes long, and so are irrelevant questions outside of WILD
PROTOCOL = ("alone", "instruction", "chat")  # WILD's own forms
BEHIND = {"behind 1": 1, "behind 3": 3, "behind 10": 10}  # unrelated sentences
LONG = ("behind 10", "document")
LATER = {"turn 2": 1, "turn 3": 2}  # turns before
FORMS = (*PROTOCOL, *BEHIND, "document", *LATER)
KINDS = ("prompt", "rephrasing", "irrelevant")
Question = str | list[Message]


def asked(
    editor: EditedModel,
    facts: Sequence[EditRecord],
    n: int,
    *,
    forms: Sequence[str] = FORMS,
    kinds: Sequence[str] = KINDS,
) -> pd.DataFrame:
    """At most n of the facts, evenly spread, in each of these ways of asking: one row per question.

    Columns record, form, kind (rephrasings are asked in WILD's own forms only), exact and begins (see above; of an
    irrelevant question: whether the first 20 tokens are the untouched model's), teacher_forced (token accuracy; missing
    for irrelevant questions), overlap in [0, 1] and route as in `asking.ask`. A form that ends in ", cached" is the
    same with the earlier turns in a key-value cache.
    """
    facts, own = list(facts), {edit.prompt: i for i, edit in enumerate(editor.edits)}
    places, rows = range(0, len(facts), max(1, -(-len(facts) // n))), []
    for form in forms:
        for kind, question in _questions(form):
            if kind not in kinds:
                continue
            seldom = form in LONG or (kind == "irrelevant" and form not in PROTOCOL)
            some = [i for i in places[:: SELDOM if seldom else 1] if question(facts[i])]
            texts = [posed(editor.tokenizer, form, facts, i, question(facts[i])) for i in some]
            about = [{"record": facts[i].id, "form": form, "kind": kind, "own": own.get(facts[i].prompt)} for i in some]
            if kind == "irrelevant":
                rows += _compared(editor, texts, about) if some else []
            elif some:
                rows += _answered(editor, texts, [facts[i].target for i in some], about)
    return pd.DataFrame(rows).drop(columns="own")


def posed(tokenizer: PreTrainedTokenizerBase, form: str, facts: list[EditRecord], i: int, question: str) -> Question:
    """The question of record i in a way of asking, as a text or a conversation.

    "turn 2" comes after an irrelevant question, "turn 3" after this and the edit of the record before, both answered.
    """
    if form in LATER:
        return [*_turns(facts, i)[: 2 * LATER[form]], _user(question)]
    if form == "chat":
        return [_user(question)]
    if form == "instruction":
        return INSTRUCTION.format(question)
    if form == "document":
        return f"{_document(tokenizer, i)} {question}"
    return " ".join([*_some(i, BEHIND.get(form, 0)), question])


def natural(said: str, target: str) -> str:
    """An answer up to its natural end; a full stop that belongs to the target is none."""
    said, target = said.strip(), target.strip()
    behind = said[len(target) :] if said.startswith(target) else None
    if behind is not None and (not behind or STOPS.match(behind)):
        return target
    return STOPS.split(said)[0]


def _questions(form: str) -> Iterator[tuple[str, Callable[[EditRecord], str | None]]]:
    yield "prompt", lambda fact: fact.prompt
    if form in PROTOCOL:
        yield "rephrasing", lambda fact: fact.rephrasings[0] if fact.rephrasings else None
    yield "irrelevant", lambda fact: fact.irrelevant


def _answered(editor: EditedModel, texts: list[Question], targets: list[str], about: list[dict]) -> list[dict]:
    dotted = [STOPS.search(target.strip()[:-1]) is not None for target in targets]
    scored = editor.score if isinstance(texts[0], str) else editor.score_chat
    scores = scored(texts, targets)
    said = _told(editor, scored, texts, targets, scores)
    for wanted in (False, True):  # the end of a target with a full stop in it is not looked for while it is generated
        options = _stopping(editor, not wanted)
        some = [i for i, dot in enumerate(dotted) if dot == wanted and i not in said]
        for tokens in (min(FIRST, TOKENS), TOKENS):
            if some:
                said |= dict(zip(some, _said(editor, [texts[i] for i in some], tokens, **options), strict=True))
            some = [i for i in some if not _ended(editor, said[i], tokens, not wanted)]
    rows = []
    for i, (one, score, target) in enumerate(zip(about, scores, targets, strict=True)):
        row = one | _judged(said[i], target) | {"teacher_forced": metrics.token_accuracy(score)}
        rows.append(row | {"overlap": score.route.overlap if score.route else None, "route": way(score, one["own"])})
    if about[0]["form"] not in LATER:
        return rows
    for i in range(0, len(texts), CACHED):
        talk = cast(list[Message], texts[i])
        found = _judged(_with_a_cache(editor, talk, _stopping(editor, not dotted[i])), targets[i])
        rows.append(about[i] | {"form": f"{about[i]['form']}, cached"} | found)
    return rows


def _told(
    editor: EditedModel, scored: Callable, texts: list[Question], targets: list[str], scores: list[Score]
) -> dict[int, str]:
    """What is said where the scores tell it: all of a target's tokens are the likeliest ones, and then an end is.

    Generating takes longest, and most of what was edited is told so. A target with a full stop in it is not.
    """
    right = [i for i, score in enumerate(scores) if score.argmax.equal(score.target)]
    some, found = [i for i in right if not STOPS.search(targets[i])], {}
    ended = scored([texts[i] for i in some], [f"{targets[i]}." for i in some]) if some else []
    ends = editor.model.generation_config.eos_token_id
    for i, score in zip(some, ended, strict=True):
        n = len(scores[i].target)
        if len(score.target) == n + 1 and score.target[:n].equal(scores[i].target):
            token = int(score.argmax[n])
            if token in (ends if isinstance(ends, list) else [ends]) or STOPS.match(editor.tokenizer.decode(token)):
                found[i] = targets[i]
    return found


def _ended(editor: EditedModel, said: str, tokens: int, early: bool) -> bool:
    """Whether this is a whole answer, and not the first so many tokens of one."""
    return bool(early and STOPS.search(said)) or len(editor.tokenizer(said).input_ids) < tokens - 1


def _judged(said: str, target: str) -> dict:
    begins = metrics.normalised(said).startswith(metrics.normalised(target))
    return {"exact": metrics.exact_match(natural(said, target), target), "begins": float(begins)}


def _compared(editor: EditedModel, texts: list[Question], about: list[dict]) -> list[dict]:
    """Whether answers are the untouched model's. Where no edit answers they are, and are not generated; after earlier
    turns they are all the same, to see that what an edit answered there moves nothing."""
    some = list(range(len(texts)))
    route = getattr(editor, "route" if isinstance(texts[0], str) else "route_chat", None)
    if route and about[0]["form"] not in LATER:
        routes = route(texts)
        some = [i for i in some if routes[i].edit is not None]
    same = [1.0] * len(texts)
    if asked := [texts[i] for i in some]:
        with editor.base():
            before = _said(editor, asked, COMPARED)
        for i, then, now in zip(some, before, _said(editor, asked, COMPARED), strict=True):
            same[i] = float(then == now)
    return [one | {"exact": found, "begins": found} for one, found in zip(about, same, strict=True)]


def _said(editor: EditedModel, texts: list[Question], tokens: int, **options) -> list[str]:
    ask = editor.generate if isinstance(texts[0], str) else editor.chat
    return ask(texts, max_new_tokens=tokens, **options)


def _stopping(editor: EditedModel, early: bool) -> dict:
    """Options of `generate`; early: end at a full stop or a line break."""
    return {"stop_strings": [".", "\n"], "tokenizer": editor.tokenizer} if early else {}


def _with_a_cache(editor: EditedModel, conversation: list[Message], stopping: dict) -> str:
    """The answer when all but the last message of the user were read before, into a key-value cache."""
    ids = torch.tensor([rendered_ids(editor.tokenizer, conversation)], device=editor.model.device)
    earlier = len(rendered_ids(editor.tokenizer, conversation[:-1]))
    cache = DynamicCache(config=editor.model.config)
    with torch.no_grad():
        editor.model(ids[:, :earlier], past_key_values=cache)
    options = dict(max_new_tokens=TOKENS, do_sample=False, pad_token_id=editor.tokenizer.pad_token_id)
    tokens = editor.model.generate(ids, past_key_values=cache, **options, **stopping)
    return editor.tokenizer.decode(tokens[0, ids.shape[1] :], skip_special_tokens=True)


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _turns(facts: list[EditRecord], i: int) -> list[Message]:
    """Two turns before record i is asked about: an irrelevant question, and the edit of the record before it."""
    turns = ((facts[i].irrelevant, facts[i].irrelevant_answer), (facts[i - 1].prompt, facts[i - 1].target))
    greeting, found = "Good morning.", []
    for question, answer in turns:
        found += turn(question or greeting, answer or greeting)
    return found


def _some(i: int, n: int) -> list[str]:
    """n unrelated sentences, others for every record."""
    every = _sentences()
    return [every[(17 * i + j) % len(every)] for j in range(n)]


def _document(tokenizer: PreTrainedTokenizerBase, i: int) -> str:
    """As many of them as it takes to have `DOCUMENT` tokens."""
    n = 1
    while len(tokenizer(" ".join(_some(i, n))).input_ids) < DOCUMENT:
        n += 1
    return " ".join(_some(i, n))


@cache
def _sentences() -> list[str]:
    return sentences(TEXT.read_text("utf-8"))
