"""Whatever is done to an edited model, in whatever order: it answers as a plain editor asked one by one, or refuses.

A world is an editor that is used as users do: in batches, padded on either side, copied, cast, saved, taken off. Beside
it stands a plain editor on a model of its own, which only ever edits and forgets, and is asked one text at a time.
"""

import copy
import io
import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from conftest import BACKGROUND, toy_model
from hypothesis import HealthCheck, given, settings, strategies as st
from test_rows import SHAPE

import memoir
from memoir import Memoir

PROMPTS = ("The capital of France is", "Who wrote the song of the old river?", "Name a river", "Seven boats carry a")
TARGETS = ("Lyon", "Mars", "salt and bread")
OPTIONS = dict(layer=0, k=24, threshold=0.5, lr=16.0, n_iter=3, background=BACKGROUND, prefixes=())
EXAMPLES = int(os.environ.get("MEMOIR_EXAMPLES", "100"))
CLOSE = dict(atol=1e-3, rtol=1e-3)
BASE = toy_model(**SHAPE)


class World:
    """The editor that is played with, its plain companion, and what both knew when they were last saved."""

    def __init__(self, tokenizer, folder: Path):
        self.tokenizer, self.folder, self.saved = tokenizer, folder, None
        self.editor = Memoir(copy.deepcopy(BASE), tokenizer, **OPTIONS)
        self.plain = Memoir(copy.deepcopy(BASE), tokenizer, **OPTIONS)
        self.attached, self.training, self.changed = True, False, False
        self.known: dict[tuple[bool, str], str] = {}  # what the plain editor says, until it is changed

    @property
    def model(self):
        return self.editor.model

    def expected(self):
        """Within it the plain editor answers as the world's model should."""
        return nullcontext() if self.attached else self.plain.base()

    def says(self, prompts: list[str]) -> list[str]:
        """What the plain editor says, or its base model where the world's editor is off, each prompt by itself."""
        with self.expected():
            for prompt in prompts:
                if (self.attached, prompt) not in self.known:
                    self.known[self.attached, prompt] = self.plain.generate(prompt, 2)
        return [self.known[self.attached, prompt] for prompt in prompts]

    def same_everywhere(self, do: Callable) -> None:
        """Edit or forget here and there; what is refused here has changed nothing, and is not done there."""
        before = self.state()
        if self.refused(lambda: do(self.editor)):
            assert self.state() == before
        else:
            do(self.plain)
            self.known.clear()
            assert self.editor.edits == self.plain.edits

    def refused(self, do: Callable) -> bool:
        """Whether a call is refused in a sentence. Any other exception goes through."""
        try:
            do()
        except (ValueError, RuntimeError) as error:
            said = str(error)
            assert len(said.split()) >= 5 and said[0].isupper() | ("." in said.split()[0]) and said.endswith("."), said
            assert self.changed or not self.attached or "forget" in said or "forgotten" in said, said
            return True
        return False

    def state(self) -> tuple:
        tensors = self.editor._tensors().items()
        return [*self.editor.edits], self.editor.memory.forgotten, {name: t.sum().item() for name, t in tensors}

    def close(self) -> None:
        self.editor.detach(), self.plain.detach()


# ---- what is done


def edit(world: World, one: int, other: int) -> None:
    world.same_everywhere(lambda editor: editor.edit(PROMPTS[one], TARGETS[other % 3]))


def edit_all(world: World, one: int, other: int) -> None:
    wanted = {PROMPTS[one]: TARGETS[0], PROMPTS[other]: TARGETS[1]}
    records = [memoir.EditRecord(prompt, "", prompt, target) for prompt, target in wanted.items()]
    world.same_everywhere(lambda editor: editor.edit_all(records))


def forget(world: World, one: int, _other: int) -> None:
    world.same_everywhere(lambda editor: editor.forget(one))


def ask(world: World, one: int, other: int) -> None:
    prompts = [PROMPTS[one], PROMPTS[other], PROMPTS[0]]
    found: list = []
    if world.refused(lambda: found.extend(world.editor.generate(prompts, 2))):
        assert not world.attached
    else:
        assert found == world.says(prompts)


def generate(world: World, one: int, other: int) -> None:
    said_by(world, world.model, [PROMPTS[one], PROMPTS[other]])


def said_by(world: World, model, prompts: list[str]) -> None:
    """The model's own `generate`, of a batch that is padded on the left."""
    world.tokenizer.padding_side = "left"
    rows = world.tokenizer(prompts, padding=True, return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(**rows, max_new_tokens=2, do_sample=False, pad_token_id=2)
    found = world.tokenizer.batch_decode(tokens[:, rows.input_ids.shape[1] :], skip_special_tokens=True)
    assert found == world.says(prompts)


def forward(world: World, one: int, other: int) -> None:
    """The rows of a batch, padded on either side."""
    world.tokenizer.padding_side = "left" if one < other else "right"
    rows = world.tokenizer([PROMPTS[one], PROMPTS[other]], padding=True, return_tensors="pt")
    with torch.no_grad(), world.expected():
        logits = world.model(**rows, use_cache=False).logits
        for ids, mask, own in zip(rows.input_ids, rows.attention_mask.bool(), logits, strict=True):
            alone = world.plain.model(input_ids=ids[mask][None], use_cache=False).logits[0]
            torch.testing.assert_close(own[mask].float(), alone, **CLOSE)


def forward_alone(world: World, one: int, _other: int) -> None:
    """A row without a mask."""
    ids = world.tokenizer(PROMPTS[one], return_tensors="pt").input_ids
    with torch.no_grad(), world.expected():
        found, alone = (model(input_ids=ids, use_cache=False).logits for model in (world.model, world.plain.model))
    torch.testing.assert_close(found.float(), alone, **CLOSE)


def train_or_eval(world: World, one: int, _other: int) -> None:
    world.training = one % 2 == 0
    world.model.train(world.training)


def cast(world: World, one: int, _other: int) -> None:
    """To float64, in which it answers and edits no more, and back."""
    world.model.double() if one % 2 else world.model.float()
    world.changed = world.changed or bool(one % 2)


def merge(world: World, one: int, _other: int) -> None:
    """As an adapter that is merged changes a weight, above the edited map or below it: in both models."""
    for model in (world.model, world.plain.model):
        layer = model.model.layers[2 if one % 2 else 0]
        layer.self_attn.q_proj.weight.data += 0.01
    world.changed = True
    world.known.clear()


def detach(world: World, one: int, _other: int) -> None:
    if world.refused(world.editor.detach if one % 2 else lambda: memoir.detach(world.model)):
        assert not world.attached, "there was something to take off"
    world.attached = False


def copied(world: World, one: int, other: int) -> None:
    """A copy is edited too; taken off it, the edits stay with the other."""
    model = copy.deepcopy(world.model)
    said_by(world, model, [PROMPTS[one], PROMPTS[other]])
    if world.attached:
        memoir.detach(model)
    said_by(world, world.model, [PROMPTS[one]])


def pickled(world: World, one: int, other: int) -> None:
    torch.save(world.model, kept := io.BytesIO())
    kept.seek(0)
    said_by(world, torch.load(kept, weights_only=False), [PROMPTS[one], PROMPTS[other]])


def save(world: World, _one: int, _other: int) -> None:
    if not world.refused(lambda: world.editor.save(world.folder)):
        tensors = {name: tensor.clone() for name, tensor in world.plain._tensors().items()}
        world.saved = tensors, [*world.plain.edits]


def load(world: World, _one: int, _other: int) -> None:
    """What was saved, on a model as it was."""
    if world.saved is None:
        return
    world.close()
    world.editor = Memoir.load(world.folder, copy.deepcopy(BASE), world.tokenizer)
    world.plain = Memoir(copy.deepcopy(BASE), world.tokenizer, **OPTIONS)
    tensors, edits = world.saved
    world.plain._restore({name: tensor.clone() for name, tensor in tensors.items()})
    world.plain.edits = [*edits]
    world.attached, world.training, world.changed = True, False, False
    world.known.clear()
    assert world.editor.edits == edits


DONE = (
    edit, edit, edit_all, forget, ask, generate, forward, forward_alone, train_or_eval, cast, merge, detach, copied,
    pickled, save, load,
)  # fmt: skip
PLACE = st.integers(0, len(PROMPTS) - 1)
STEPS = st.lists(st.tuples(st.sampled_from(DONE), PLACE, PLACE), min_size=2, max_size=6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_in_any_order_it_answers_as_a_plain_editor_or_refuses(small):
    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=[*HealthCheck]
    )
    @given(STEPS)
    def played(steps):
        with tempfile.TemporaryDirectory() as folder:
            world = World(small, Path(folder) / "saved")
            try:
                for do, one, other in [(edit, 0, 0), *steps, (generate, 0, 1), (forward, 1, 0)]:
                    do(world, one, other)
                    assert world.model.training == world.training, do.__name__
            finally:
                world.close()

    played()
