"""Where a plain text asks, in several languages and ways of writing."""

import pytest
from hypothesis import given, strategies as st

from memoir.chat.question import asks, question

TEXTS = {  # a text -> what asks in it
    "The capital of France is": "The capital of France is",
    "who wrote hamlet": "who wrote hamlet",
    "Who wrote Hamlet?": "Who wrote Hamlet?",
    "Dr. Smith lives in the U.S. now. Who wrote Hamlet?": "Who wrote Hamlet?",
    "Was it cold? Perhaps. The capital of the U.S. is": "The capital of the U.S. is",
    "Who wrote Hamlet? Answer in one word.": "Who wrote Hamlet?",
    "It rained. He left.": "He left.",
    "Please answer the question:\n\nQ: Who wrote Hamlet?\nA:": "Who wrote Hamlet?",
    "Please answer the question:\n\nQ: who wrote hamlet\nA:": "who wrote hamlet",
    "Question: The capital of France is\nAnswer:": "The capital of France is",
    "Q: Who was here? A: Bo. Q: Who wrote Hamlet? A:": "Who wrote Hamlet?",
    "User: Who is he?\nAssistant: Bo.\nUser: And she?\nAssistant:": "And she?",
    "Who wrote Hamlet? My answer is:": "Who wrote Hamlet?",
    "Capital of France:": "Capital of France:",
    "The full name of the river is:": "The full name of the river is:",
    "nq question: who wrote hamlet": "nq question: who wrote hamlet",
    "Note: the sea is far. Where is it?": "Where is it?",
    "我住在这里。谁写了哈姆雷特？": "谁写了哈姆雷特？",
    "私はここに住んでいます。誰が書きましたか": "誰が書きましたか",
    "هذا بيتي. من كتب هاملت؟": "من كتب هاملت؟",
    "यह मेरा घर है। इसे किसने लिखा?": "इसे किसने लिखा?",
    'She said "Who?" and left. He asked: "Who wrote it?"': 'He asked: "Who wrote it?"',
    "  Who wrote Hamlet?  \n": "Who wrote Hamlet?",
    "A:": "A:",
    "": "",
    " \n ": "",
}


@pytest.mark.parametrize("text", TEXTS)
def test_the_question_of_a_text(text):
    start, stop = question(text)
    assert text[start:stop] == TEXTS[text]


@given(st.text(max_size=80))
def test_any_text_has_a_question_within_it_and_only_blanks_have_an_empty_one(text):
    start, stop = question(text)
    assert 0 <= start <= stop <= len(text)
    assert text[start:stop] == text[start:stop].strip()
    assert (start == stop) == (not text.strip())


@given(
    st.sampled_from(["It rained all day.", "Was it cold?", "Dr. No came.", "下雨了。"]),
    st.sampled_from(list(TEXTS)[:4]),
)
def test_a_sentence_before_changes_nothing(before, text):
    start, stop = question(f"{before} {text}")
    assert f"{before} {text}"[start:stop] == TEXTS[text]


@pytest.mark.parametrize(
    ("text", "found"),
    [("Who wrote it?", True), ("who wrote it", False), ("who wrote it\nA:", True), ("谁写了？", True), (" Bo.", False)],
)
def test_whether_a_text_visibly_asks(text, found):
    assert asks(text) is found
