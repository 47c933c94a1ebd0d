"""The words that tell stored prompts apart."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from letters import Letters

from memoir.routing.words import Subjects, denies, names, nats, words

PROMPTS = ["Who leads Acme Corp?", "Who leads Zenith Labs?", "Where is Acme Corp?", "What is the code of Łódź?"]


def of(prompts, background=("Who leads the way?", "Where is it?")) -> Subjects:
    found = Subjects(background, Letters())
    for prompt in prompts:
        found.add(prompt)
    return found


def test_a_name_is_what_a_prompt_is_about():
    shares = of(PROMPTS).shares("acme corp, who is at its head?")
    assert shares[0] > 0.6 and shares[2] > 0.6 and max(shares[1], shares[3]) < 0.3


def test_case_and_accents_make_no_difference():
    found = of(PROMPTS)
    assert words("Kraków's ÉTÉ") == ["krakow", "s", "ete"]
    np.testing.assert_array_equal(found.shares("CODE OF Łódź"), found.shares("code of łódź"))


@given(st.lists(st.text("ab cD1", min_size=1), max_size=8), st.text("ab cD1"))
def test_shares_lie_between_0_and_1_and_a_prompt_has_all_of_its_own_words(prompts, question):
    found = of(prompts)
    shares = found.shares(question)
    assert shares.shape == (len(prompts),) and (shares >= 0).all() and (shares <= 1 + 1e-9).all()
    for i, prompt in enumerate(prompts):
        assert found.shares(prompt)[i] == pytest.approx(1.0 if words(prompt) else 0.0)


@given(st.lists(st.sampled_from(PROMPTS), max_size=6))
def test_prompts_that_come_later_are_weighed_as_if_all_had_come_at_once(prompts):
    slowly = of([])
    for prompt in prompts:
        slowly.add(prompt)
        slowly.shares("Acme")
    np.testing.assert_allclose(slowly.shares(PROMPTS[0]), of(prompts).shares(PROMPTS[0]))


def test_a_rare_word_takes_more_to_write_than_a_common_one(tokenizer):
    assert nats(tokenizer, "of") < nats(tokenizer, "table") < nats(tokenizer, "thallium") < nats(tokenizer, "xqjzvk")


def test_names_are_told_by_how_they_are_written():
    assert names("Is the MiG-29 of Poland in use in 2024?") == {"mig", "29", "poland", "2024"}
    assert names("Paris is where?") == set()  # the first word may be one or not


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It isn't so.", True), ("It isn’t so.", True), ("Who never left?", True), ("Which note is it?", False),
        ("He cannot", True), ("nothing", True), ("", False),
    ],
)  # fmt: skip
def test_denials(text, expected):
    assert denies(text) is expected
