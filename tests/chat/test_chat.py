"""Edits where people ask: conversations, later turns, key-value caches, and all that transformers asks with."""

import copy
import random

import pytest
import torch
from conftest import toy_model
from templates import CHATML, TEMPLATES
from transformers import DynamicCache, StaticCache, TextIteratorStreamer, pipeline

from memoir import texts
from memoir.chat.formats import PromptFormats
from memoir.chat.template import rendered_ids
from memoir.chat.turns import Turn, answered_turns
from memoir.config import MemoirConfig
from memoir.memory import Route

FACTS = [  # prompts of few common words, as the random toy models tell words and nothing else
    ("Where does the old violin hang?", "in a barn"), ("Which gate opens first?", "the third"),
    ("How many lemons did Otto buy?", "seventy"), ("Name whoever painted that door.", "a sailor"),
    ("What colour has her boat?", "dark red"), ("Who sings at dawn today?", "nobody"),
]  # fmt: skip
OTHER = ["Name a river.", "It rained. How old is she?", "Tell me about bread."]
WORDS = ["fine", "no idea at all", "on shelf nine, I think. Or was it ten?"]


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def said(content: str) -> dict:
    return {"role": "assistant", "content": content}


@pytest.fixture
def talker(toy_editor, tokenizer):
    """Make a toy editor with six edits, that routes by the question alone."""

    def make(template: str = CHATML, **options):
        model = toy_model()
        model.model.layers[0].self_attn.o_proj.weight.data.zero_()  # features that a random context does not drown
        templated = copy.deepcopy(tokenizer)
        templated.chat_template = template
        settings = dict(layer=0, threshold=0.5, span="question", prefixes=()) | options
        editor = toy_editor(model, tokenizer=templated, **settings)
        for prompt, target in FACTS:
            editor.edit(prompt, target)
        return editor

    return make


def conversations(n: int, seed: int) -> list[list[dict]]:
    """Random conversations of one to five turns of the user, half of whose questions were edited."""
    drawn, found = random.Random(seed), []
    for _ in range(n):
        one = [] if drawn.random() < 0.7 else [{"role": "system", "content": "Be kind. Are you?"}]
        for turn in range(drawn.randint(1, 5)):
            question = drawn.choice([fact[0] for fact in FACTS] + OTHER * 2)
            one += [said(drawn.choice(WORDS))] if turn else []
            one.append(user(f"{drawn.choice(['', 'It is late. '])}{question}"))
        found.append(one)
    return found


def pieces(editor, conversation: list[dict]) -> list[list[int]]:
    """The tokens of a conversation, cut behind each of the user's turns."""
    ends = [i + 1 for i, message in enumerate(conversation) if message["role"] == "user"]
    before, found = [], []
    for end in ends:
        ids = rendered_ids(editor.tokenizer, conversation[:end])
        assert ids[: len(before)] == before
        found.append(ids[len(before) :])
        before = ids
    return found


def by_token(editor) -> list[int | None]:
    """Which edit answers each token of one row of the latest forward pass."""
    asked = editor._hooks.state
    found = [None] * (asked.past + asked.tokens.shape[1])
    for turn in sorted(asked.turns, key=lambda turn: turn.start)[-1:]:
        found[turn.start :] = [turn.route.edit] * (len(found) - turn.start)
    return found[asked.past :]


@pytest.mark.parametrize("name", ["chatml", "headers", "folded", "spoken"])
@torch.no_grad()
def test_with_a_cache_every_token_is_routed_as_without(talker, name):
    """200 random conversations in all: read turn by turn into a cache, and after each turn read whole."""
    editor, routed = talker(TEMPLATES[name]), set()
    for conversation in conversations(50, seed=len(name)):
        cache, whole = DynamicCache(config=editor.model.config), []
        for piece in pieces(editor, conversation):
            whole += piece
            editor.model(torch.tensor([piece]), past_key_values=cache)
            cached = by_token(editor)
            editor.model(torch.tensor([whole]), use_cache=False)
            assert by_token(editor)[-len(piece) :] == cached
            routed |= set(cached)
        (route,) = editor._hooks.routes
        assert editor.route_chat(conversation).edit == route.edit
    assert routed >= {None, *range(len(FACTS))}


@pytest.mark.parametrize("name", ["chatml", "folded"])
def test_with_a_cache_every_turn_is_answered_as_without(talker, name):
    editor = talker(TEMPLATES[name])
    options = dict(max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=2, output_logits=True)
    options |= dict(return_dict_in_generate=True)
    for conversation in conversations(10, seed=len(name)):
        cache, whole = DynamicCache(config=editor.model.config), []
        for piece in pieces(editor, conversation):
            ids = torch.tensor([whole := whole + piece])
            kept = editor.model.generate(ids, past_key_values=cache, **options)
            fresh = editor.model.generate(ids, **options)
            assert torch.equal(kept.sequences, fresh.sequences)
            torch.testing.assert_close(torch.cat(kept.logits), torch.cat(fresh.logits), rtol=1e-4, atol=1e-4)
            cache.crop(ids.shape[1] - cache.get_seq_length())


@torch.no_grad()
def test_up_to_the_answer_the_memory_reads_the_question_alone(talker, monkeypatch):
    """Behind whatever stands before it, in one pass or in several; from the answer on it reads what stands there."""
    editor, seen = talker(layer=1), []
    written = type(editor.memory).forward
    monkeypatch.setattr(
        type(editor.memory), "forward", lambda own, read, masks: seen.append(read) or written(own, read, masks)
    )
    asked, read = user(FACTS[2][0]), []
    for before in ([], [user("It is late."), said("So it is.")], [user(FACTS[0][0]), said("in a barn, I think")]):
        ids = rendered_ids(editor.tokenizer, [*before, asked])
        for cut in (len(ids), len(ids) - 2):  # the last two tokens of the template by themselves
            cache, parts = DynamicCache(config=editor.model.config), []
            for part in (ids[:cut], ids[cut:]):
                if part:
                    seen.clear()
                    editor.model(torch.tensor([part]), past_key_values=cache)
                    parts.append(seen[0][-1])
            read.append(torch.cat(parts)[-5:])  # the question's last, and what the template writes behind it
        said_next = editor.tokenizer("seventy", add_special_tokens=False).input_ids[:1]
        editor.model(torch.tensor([said_next]), past_key_values=cache)
        read.append(seen[-1][-1])
    alone = read[0]
    for i in (1, 3, 4, 6, 7):
        assert torch.equal(read[i], alone)
    assert not torch.allclose(read[2], read[5])  # an answer is read where it stands


@torch.no_grad()
def test_a_rephrasing_is_read_as_the_prompt_that_answers_it(talker, monkeypatch):
    """What the memory adds up to the answer is what it adds to the edit's own prompt, whatever was asked."""
    editor = talker()
    found = Turn(0, 0, text="Say, where does that violin hang?", end=9, tail=(5, 7))
    own = found._replace(text=FACTS[0][0])
    monkeypatch.setattr(editor, "_routed", lambda asked: [Route(0, 0.9)] * len(asked))
    read, same = editor._route_turns([found, own])
    assert torch.equal(read.read, same.read) and read.read.shape == (3, editor.memory.size)
    monkeypatch.setattr(editor, "_routed", lambda asked: [Route(None, 0.1)] * len(asked))
    assert editor._route_turns([found])[0].read is None


def test_generated_tokens_are_never_routed(talker):
    """Not one by one, nor several at once as prompt lookup reads them, even where they ask what was edited."""
    editor = talker()
    conversation = [user(FACTS[1][0])]
    ids = torch.tensor([rendered_ids(editor.tokenizer, conversation)])
    asks = editor.tokenizer(f"<|im_end|>\n<|im_start|>user\n{FACTS[4][0]}<|im_end|>\n", return_tensors="pt").input_ids
    seen = []

    def force(_batch, sent):  # whatever the model would say, it says the question of edit 4 in the user's name
        at = len(sent) - ids.shape[1]
        seen.append(editor._hooks.routes[0].edit)
        return [int(asks[0, at])] if at < asks.shape[1] else [0]

    for options in ({}, {"prompt_lookup_num_tokens": 3}):
        editor.model.generate(ids, max_new_tokens=asks.shape[1], prefix_allowed_tokens_fn=force, **options)
        assert set(seen) == {1}


def test_every_way_of_asking_answers_as_chat_does(talker):
    editor = talker()
    tokenizer, model = editor.tokenizer, editor.model
    for conversation in conversations(6, seed=3):
        answer = editor.chat(conversation, max_new_tokens=6, min_new_tokens=6)
        asked = tokenizer.apply_chat_template(
            conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        length = asked["input_ids"].shape[1]
        options = dict(max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=2)
        tokens = model.generate(**asked, **options)
        assert tokenizer.decode(tokens[0, length:], skip_special_tokens=True) == answer
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        model.generate(**asked, **options, streamer=streamer)
        assert "".join(streamer) == answer
        talk = pipeline("text-generation", model=model, tokenizer=tokenizer)
        found = talk(conversation, max_new_tokens=6, min_new_tokens=6, do_sample=False)[0]["generated_text"]
        assert found[-1]["content"] == answer
        beams = model.generate(**asked, **options, num_beams=3, num_return_sequences=3)
        assert len(beams) == 3
        static = StaticCache(config=model.config, max_cache_len=length + 8)
        assert torch.equal(model.generate(**asked, **options, past_key_values=static), tokens)
        assert torch.equal(model.generate(**asked, **options, prompt_lookup_num_tokens=2), tokens)
        assert torch.equal(model.generate(**asked, **options, prefill_chunk_size=5), tokens)


@pytest.mark.parametrize("assistant", ["untouched", "edited alike", "edited otherwise"])
def test_a_second_model_that_proposes_tokens_changes_no_answer(talker, assistant):
    """Assisted decoding: the edited model looks at several proposed tokens at once, and routes none of them."""
    editor, other = talker(), talker()
    if assistant == "edited otherwise":
        other.edit(FACTS[0][0], "on the moon")
    if assistant == "untouched":
        other.detach()
    for conversation in conversations(6, seed=4):
        asked = editor.tokenizer.apply_chat_template(
            conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        options = dict(max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=2)
        alone = editor.model.generate(**asked, **options)
        assert torch.equal(editor.model.generate(**asked, **options, assistant_model=other.model), alone)


def test_rows_of_different_length_and_turns_are_answered_together(talker):
    editor = talker()
    several = conversations(12, seed=5)
    together = editor.chat(several, max_new_tokens=5, min_new_tokens=5)
    assert together == [editor.chat(one, max_new_tokens=5, min_new_tokens=5) for one in several]
    assert editor.route_chat(several) == [editor.route_chat(one) for one in several]


def test_a_new_turn_on_an_old_cache_and_an_answer_that_is_made_again(talker):
    editor = talker()
    model, cache = editor.model, DynamicCache(config=editor.model.config)
    options = dict(max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=2)
    conversation = []
    for prompt in (FACTS[2][0], OTHER[0], FACTS[0][0], FACTS[2][0]):
        conversation.append(user(prompt))
        ids = torch.tensor([rendered_ids(editor.tokenizer, conversation)])
        fresh = model.generate(ids, **options)
        kept = model.generate(ids, **options, past_key_values=cache)
        assert torch.equal(kept, fresh)
        route = editor.route_chat(conversation).edit
        assert route == (None if prompt == OTHER[0] else [fact[0] for fact in FACTS].index(prompt))
        cache.crop(ids.shape[1] - 1 - cache.get_seq_length())  # the answer again: the question stays in the cache
        assert torch.equal(model.generate(ids, **options, past_key_values=cache), fresh)
        cache.crop(ids.shape[1] - 12 - cache.get_seq_length())  # and from the middle of the question on
        assert torch.equal(model.generate(ids, **options, past_key_values=cache), fresh)
        conversation.append(said(editor.tokenizer.decode(fresh[0, ids.shape[1] :], skip_special_tokens=True)))
        cache.crop(ids.shape[1] - cache.get_seq_length())


def test_plain_text_is_routed_by_its_last_question(talker):
    editor = talker()
    asked = FACTS[0][0]
    for text in (asked, f"It rained. {asked}", f"Q: {asked}\nA:", f"{FACTS[3][0]} {FACTS[1][0]} {asked}"):
        assert editor.route(text).edit == 0


@pytest.mark.parametrize(
    ("conversation", "error"),
    [
        ([], "list of messages"),
        ("Who?", "list of messages"),
        ([{"role": "user"}], "message 0: content must be a str"),
        ([["Who?"]], "message 0, must be"),
        ([user("Who?"), said("Bo"), user(" ")], "last message of the user is empty"),
        ([{"role": "system", "content": "Be kind."}], "last message of the user is missing"),
        ([user(None)], "content must be a str"),
        ([[user("Who?")], "no"], r"conversations\[1\] must be a list of messages"),
    ],
)
def test_what_is_no_conversation_is_refused(talker, conversation, error):
    with pytest.raises((TypeError, ValueError), match=error):
        talker().chat(conversation)


def test_a_tokenizer_without_a_template_says_so(talker):
    editor = talker(None)
    with pytest.raises(ValueError, match="no chat template"):
        editor.chat([user("Who?")])
    assert editor.route(FACTS[0][0]).edit == 0


def test_embeddings_have_no_question_to_read(talker):
    editor = talker()
    ids = editor.tokenizer(FACTS[0][0], return_tensors="pt").input_ids
    with pytest.raises(ValueError, match="reads the tokens that ask: ask with input_ids"):
        editor.model(inputs_embeds=editor.model.get_input_embeddings()(ids))


def test_the_choices_are_kept_in_a_saved_state(talker, tmp_path, toy_editor):
    editor = toy_editor(span="question", formats=("chat", "cue"), end=True, prefixes=())
    editor.edit(*FACTS[0])
    editor.save(tmp_path)
    settings = editor._settings()
    assert (settings["span"], settings["formats"], settings["end"]) == ("question", ["chat", "cue"], True)
    assert not {"span", "formats", "end"} & talker_settings(toy_editor).keys()


def talker_settings(toy_editor) -> dict:
    return toy_editor(toy_model())._settings()


@pytest.mark.parametrize(
    ("options", "error"),
    [({"span": "sentence"}, "span = 'sentence' is unknown"), ({"formats": ("talk",)}, "= 'talk' is unknown")],
)
def test_wrong_choices_are_named(toy_editor, options, error):
    with pytest.raises(ValueError, match=error):
        toy_editor(**options)


def test_a_deep_copy_answers_conversations_alike(talker):
    editor = talker()
    ids = torch.tensor([rendered_ids(editor.tokenizer, [user(FACTS[1][0])])])
    options = dict(max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=2)
    again = copy.deepcopy(editor.model).generate(ids, **options)
    assert torch.equal(again, editor.model.generate(ids, **options))


def test_an_edit_acts_in_the_last_turn_from_its_question_s_last_token_on():
    """What stands before, the question's own words too, is the base model's, cached or not."""
    edit = Route(0, 1.0)
    found = [Turn(0, 2, text="a b", end=5, route=edit), Turn(0, 8, text="c d", end=10, route=Route(1, 1.0))]
    turns, here = answered_turns(found, 0, 12)
    assert [turn.route.edit for turn in turns] == [1] and here.int().tolist() == [[0] * 9 + [1] * 3]
    turns, here = answered_turns(found, 9, 3)  # all but the last three tokens lie in a cache
    assert [turn.route.edit for turn in turns] == [1] and here is None
    assert answered_turns([found[0], found[1]._replace(route=Route(None, 0.2))], 0, 12)[0] == []
    assert answered_turns([Turn(0, 0, route=edit)], 0, 4) == ([Turn(0, 0, route=edit)], None)  # the paper's


def test_an_edit_that_answered_before_moves_no_later_answer(talker):
    """An earlier turn is text like any other, also where the cache was filled while its edit answered."""
    editor = talker()
    model = editor.model
    options = dict(max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=2)
    conversation, cache = [user(FACTS[0][0])], DynamicCache(config=model.config)
    ids = torch.tensor([rendered_ids(editor.tokenizer, conversation)])
    spoken = model.generate(ids, past_key_values=cache, **options)
    conversation += [said(editor.tokenizer.decode(spoken[0, ids.shape[1] :])), user(OTHER[0])]
    ids = torch.tensor([rendered_ids(editor.tokenizer, conversation)])
    with editor.base():
        before = model.generate(ids, **options)
    assert torch.equal(model.generate(ids, past_key_values=cache, **options), before)
    assert torch.equal(model.generate(ids, **options), before)
    again = [*conversation, said("Well."), user(FACTS[0][0])]
    assert editor.route_chat(again).edit == 0 and editor.chat(again, max_new_tokens=4) != editor.chat(
        conversation, max_new_tokens=4
    )


def test_the_answer_s_end_leaves_the_target_s_tokens_as_they_are(tokenizer):
    forms = PromptFormats(tokenizer, MemoirConfig(0, 1, 0.5, span="question", end=True))
    for target, end in (("below)", "."), ("below.", "")):
        ((_, (after,)),) = forms.rows("Where is the key?", target, (), 0)
        plain = texts.target_ids(tokenizer, "Where is the key?", target)
        assert after[: len(plain)] == plain and tokenizer.decode(after[len(plain) :]) == end
