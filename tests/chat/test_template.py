"""Templates of several shapes, read off their own renderings; and the questions among the tokens of these."""

import copy
import random
import time

import pytest
from templates import SYSTEM, TEMPLATES
from tokenizers.processors import TemplateProcessing

from memoir.chat.spans import Questions
from memoir.chat.template import answered, end_of_turn, rendered, rendered_ids, template_of

ASKED = ["Who wrote Hamlet?", "name a river", "I was there. Where is item 3 kept?"]
WANTED = ["Who wrote Hamlet?", "name a river", "Where is item 3 kept?"]
REPLY = {"role": "assistant", "content": "It is on the left. Who knows?"}


@pytest.fixture(params=TEMPLATES)
def dressed(request, tokenizer):
    """A tokenizer with one of the templates."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TEMPLATES[request.param]
    tokenizer.name = request.param
    return tokenizer


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def read(tokenizer, ids: list[int]) -> list[str]:
    return [tokenizer.decode(ids[one.first : one.stop]).strip() for one in Questions(tokenizer)(ids)]


def close(found: list[str], wanted: list[str]) -> bool:
    """Up to what a token at the border has of a mark that is none of the tokenizer's special tokens."""
    return len(found) == len(wanted) and all(
        w in f and len(f) <= len(w) + 2 for f, w in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_every_question_of_a_conversation_is_found_among_its_tokens(dressed, turns):
    conversation = [message for asked in ASKED[:turns] for message in (user(asked), REPLY)][:-1]
    assert close(read(dressed, rendered_ids(dressed, conversation)), WANTED[:turns])


def test_a_system_prompt_asks_nothing(dressed):
    system = {"role": "system", "content": "Be kind. Who are you?\n\nAnswer everything."}
    if dressed.name not in SYSTEM:
        with pytest.raises(ValueError, match="refuses this conversation: no system"):
            rendered(dressed, [system, user(ASKED[0])])
        return
    assert close(read(dressed, rendered_ids(dressed, [system, user(ASKED[0])])), WANTED[:1])
    assert close(
        read(dressed, rendered_ids(dressed, [system, user(ASKED[0]), REPLY, user(ASKED[2])])), [WANTED[0], WANTED[2]]
    )


def test_tokens_that_were_generated_need_not_be_the_usual_ones(dressed):
    """An answer may be cut into tokens as its text would not be."""
    before = rendered_ids(dressed, [user(ASKED[0])])
    odd = [i for letter in " Loire" for i in dressed(letter, add_special_tokens=False).input_ids]
    again = dressed(rendered(dressed, [user(ASKED[0]), REPLY, user(ASKED[1])]).partition(REPLY["content"])[2]).input_ids
    found = read(dressed, before + odd + again)
    assert close([found[0], found[-1]], WANTED[:2])


def test_a_half_written_answer_is_gone_on_with(dressed):
    half = [user(ASKED[0]), {"role": "assistant", "content": "It was"}]
    assert rendered(dressed, half).endswith("It was")
    assert close(read(dressed, rendered_ids(dressed, half)), WANTED[:1])


def test_an_answer_stands_where_the_template_puts_it(dressed):
    before, after = answered(dressed, [user(ASKED[0])], "Marlowe", end=True)
    done = [user(ASKED[0]), {"role": "assistant", "content": "Marlowe"}]
    whole = dressed.apply_chat_template(done, tokenize=False)
    said = dressed.decode(before + after)
    assert whole.replace(" ", "").startswith(said.replace(" ", "")) and said.endswith(
        "Marlowe" + end_of_turn(dressed).strip()
    )
    assert dressed.decode(answered(dressed, [user(ASKED[0])], "Marlowe", end=False)[1]).strip() == "Marlowe"


def test_what_a_tool_says_is_not_the_users_question(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TEMPLATES["tools"]
    called = [user(ASKED[0]), REPLY, {"role": "tool", "content": "Was it found? Nothing was."}]
    assert read(tokenizer, rendered_ids(tokenizer, called)) == WANTED[:1]


@pytest.mark.parametrize("name", ["chatml", "headers", "spoken"])
def test_an_empty_message_asks_nothing(tokenizer, name):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TEMPLATES[name]
    assert close(read(tokenizer, rendered_ids(tokenizer, [user(ASKED[0]), REPLY, user("")])), WANTED[:1])


def test_plain_texts_are_read_as_such_with_any_template(dressed):
    for text in ("Some words. Who wrote Hamlet?", "Q: Who wrote Hamlet?\nA:"):
        assert read(dressed, dressed(text).input_ids) == ["Who wrote Hamlet?"]


def test_a_template_that_sets_nothing_off_leaves_plain_texts(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    assert template_of(tokenizer) is None
    assert read(tokenizer, rendered_ids(tokenizer, [user("It rained."), user(ASKED[0])])) == WANTED[:1]


def test_a_tokenizer_without_a_template_says_so(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = None
    assert template_of(tokenizer) is None
    with pytest.raises(ValueError, match="no chat template: set tokenizer.chat_template"):
        rendered(tokenizer, [user(ASKED[0])])


@pytest.mark.parametrize("text", ["aé東🎉 \n.x€", None])
def test_tokens_end_where_decoding_all_before_them_ends(tokenizer, text):
    """Also tokens that no text would be cut into, and those that end within a character."""
    drawn, questions = random.Random(0), Questions(tokenizer)
    for _ in range(60):
        ids = (
            tokenizer("".join(drawn.choices(text, k=120))).input_ids if text else drawn.choices(range(20, 49000), k=99)
        )
        found = questions._ends_apart(ids)
        assert found == [len(tokenizer.decode(ids[: i + 1])) for i in range(len(ids))]


@pytest.mark.parametrize("text", ["The river stands in Peru. ", " A:", "\n", "<|im_start|>user\n", "東. "])
def test_a_text_of_many_turns_takes_its_length_and_no_more(tokenizer, text):
    """Eight times the text in no more than thirty times the time; a quadratic search would take sixty-four."""
    questions, seconds = Questions(tokenizer), []
    for n in (400, 3200):
        ids = tokenizer(f"Who is it?{text * n} So").input_ids
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            questions(ids)
            questions._ends_apart(ids)
            best = min(best, time.process_time() - start)
        seconds.append(best)
    assert seconds[1] < 30 * max(seconds[0], 0.005)


def test_what_writes_its_own_first_token_is_routed_as_it_is_answered(tokenizer, toy_editor):
    """The tokenizer puts a first token before every text, and the template has one, too: there is one, not two."""
    twice = copy.deepcopy(tokenizer)
    twice.chat_template, first = TEMPLATES["inst"], twice.bos_token
    twice.backend_tokenizer.post_processor = TemplateProcessing(single=f"{first} $A", special_tokens=[(first, 1)])
    assert twice("a").input_ids[0] == 1
    editor = toy_editor(tokenizer=twice, threshold=0.0)
    editor.edit("What is the capital of France?", "Lyon")
    conversation = [user("Tell me, what is the capital of France?")]
    one = rendered(twice, conversation).removeprefix(first)  # before which the tokenizer puts it
    assert twice(one).input_ids == rendered_ids(twice, conversation)
    assert editor.route_chat(conversation) == editor.route(one)
