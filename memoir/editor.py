"""Memoir: edit a model through a residual memory, and ask it.

An edit, from top to bottom, each file in one place:

    edited.py, edit            notes what `_edit` did; where that raises, nothing has changed
      editor._edit             the recipe, in the paper's order: the numbered lines below
        chat/formats.py        prompt and target as rows of tokens, in each way of asking
        frozen.py              the layers up to the edited one, once; those above it, at every step
        memory.py, tophash.py  the prompt's mask; it is stored when the steps have ended
        write.py               `fit`: the steps, until the target is learnt
        update.py              what the steps make of the gradients, and their change of W_m

A question: hooks.py (the hooks on the model) → policy.py (who answers, what is added) → memory.py (which edit it is
about, by its mask; then W_m through the stored one). With span="question", a gate or a router, policy.py asks here and
routing/ which edit it is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts, tophash
from memoir.chat.formats import PromptFormats
from memoir.chat.messages import Conversation, as_conversations
from memoir.chat.past import PastKeyValues, PastReader
from memoir.chat.template import rendered
from memoir.chat.turns import Turn
from memoir.checks import host, inputs
from memoir.config import Family, MemoirConfig
from memoir.edited import EditedModel
from memoir.facts.background import background_prompts
from memoir.frozen import FrozenActivations, replaced, run_frozen, run_tail
from memoir.hooks import Attachment, Hooked
from memoir.memory import ResidualMemory, Route
from memoir.models.registry import config_for, edited_map, family_of
from memoir.packed import prepack
from memoir.policy import MemoryPolicy
from memoir.queryable import Edit, by_length, several
from memoir.routing.gate import LexicalGate
from memoir.routing.router import Router
from memoir.threads import in_turn, made_plainly
from memoir.update import DualUpdate, projector
from memoir.write import Batch, Fitted, fit, without_padding

PROBE = "The capital of France is Paris, as everybody"  # of any model: read in parts, and as a whole
ALIKE = 0.02  # how far logits may differ by rounding, as a part of the largest; bfloat16 keeps three digits


class Memoir(Hooked, EditedModel):
    """Edits `model` through a residual memory beside one Linear map (paper, section 3).

    `Memoir(model, tokenizer)` takes the default settings of the registry for the model, `Memoir(model, tokenizer,
    config)` those of a `MemoirConfig`; fields of it, as keywords, replace either's. Where layer, k and threshold are
    all given the model need not be of the registry, and all others are the paper's.
    A bad argument is a ValueError or a TypeError that names it, and leaves the model as it was.

    While the editor is attached, `model.save_pretrained` writes the base model WITHOUT the edits: `save` keeps them.
    """

    method = "memoir"
    writes_jointly = True

    @made_plainly
    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: MemoirConfig | None = None, **fields
    ):
        # 1. settings, all of them looked at before anything of the model is touched
        host.check(model, tokenizer)
        if not isinstance(config, MemoirConfig | None):
            raise TypeError(f"config must be a MemoirConfig, not a {type(config).__name__}: dict settings go in as **.")
        self.config = config = config_for(model, fields) if config is None else replace(config, **fields)
        self.family = config.family or family_of(model)
        linear = edited_map(model, self.family, config.layer)
        size, device = linear.in_features, linear.weight.device
        self.background = tuple(background_prompts() if config.background is None else config.background)
        self._formats = PromptFormats(tokenizer, config)
        self._gate = None if config.sigma is None else LexicalGate(config.sigma)
        self._router = None if config.router == "masks" else Router(config.router, self._formats.question, tokenizer)
        # 2. the memory: W_m and P, both as if nothing had been written, and the permutation π
        permutation = tophash.random_permutation(size, config.seed)
        self.memory = ResidualMemory(size, linear.out_features, config.k, config.threshold, permutation, device)
        self.projector = projector(config.update, size, config.ridge, config.rank, device)
        super().__init__(model, tokenizer)
        self._packed: dict | None = None
        _ = self._prepacked  # before the hooks: what does not fit into memory leaves the model as it was
        # 3. the hooks
        by_words, questions = bool(self._gate or self._router), self._formats.questions
        policy = MemoryPolicy(
            self.memory, self._route_prompts if by_words else None, questions, self._route_turns if questions else None
        )
        self._hooks = Attachment(model, linear, policy, self.lock, tokenizer.all_special_ids)
        self._past = PastReader(model, self._hooks.off)  # `self.base` would keep the editor in memory
        # 4. is it read rightly? then μ, and the prefixes, which the model makes itself
        try:
            self._need_family()
            self.memory.mu.copy_(self.features(self.background).mean(dim=0))
            prefixes = config.prefixes
            if prefixes is None:
                prefixes = texts.self_generated_prefixes(model, tokenizer, config.n_prefixes, config.seed)
            self.prefixes = tuple(prefixes)
        except BaseException:
            self.detach()
            raise

    def _need_family(self) -> None:
        """ValueError where the layers and the head, as an edit runs them, do not give the model's own logits."""
        ids = texts.prompt_ids(self.tokenizer, PROBE)
        rows = self._rows([ids])
        place = torch.zeros(1, dtype=torch.long), torch.tensor([len(ids) - 1])
        try:
            with torch.no_grad(), self.base():
                own = self.model(input_ids=rows.input_ids, attention_mask=rows.attention_mask, use_cache=False).logits
                frozen = run_frozen(self.model, self.family, self.config.layer, rows.input_ids, rows.attention_mask)
                delta = torch.zeros_like(frozen.mapped, dtype=torch.float32)
                here = run_tail(self.model, self.family, self.config.layer, frozen, delta, *place)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"{type(self.model).__name__} does not run in parts as {self.family} says ({error}): editing needs "
                "decoder layers one after the other, then a norm and a head."
            ) from error
        own, here = own[0, -1].float(), here[0].float().to(own.device)
        if (difference := (own - here).abs().max().item()) > ALIKE * max(1.0, own.abs().max().item()):
            raise ValueError(
                f"With {self.family} the logits of {type(self.model).__name__} come out as others than its own (by up "
                f"to {difference:.2g}): it scales or shifts them, or its layers, in a way that is not known here. An "
                "edit's losses would be those of another model."
            )

    # ---- writing

    def _edit(self, edits: Sequence[Edit]) -> list[Fitted]:
        """Steps on W_m through the masks of the edits' prompts; then these are stored (paper, section 3)."""
        config, prompts = self.config, [edit.prompt for edit in edits]
        # 1. the rows: each prompt in its ways of asking, with its target; and a_t, from the layers up to the edited one
        batch = self._prepare_rows(edits)
        # 2. the masks M(x_e), each of the bare prompt alone
        masks, batch = self._masks_and_inputs(batch, prompts)
        # 3. the keys u = M ⊙ a. Plain descent writes W_m in the mask's columns alone; under rls P spreads the change
        # beyond them, and weight decay shrinks all of W_m
        write = DualUpdate(self.projector, self.memory.weight, batch.keys(masks), config.lr, config.weight_decay)
        # 4. the steps, until the targets are learnt: each runs the layers above the edited one
        layers, tail = self._layers(), partial(run_tail, self.model, self.family, config.layer)
        with replaced(self._prepacked):
            fitted = fit(batch, write, tail, layers[config.layer + 1 :], config)
        # 5. W_m changes, once; the masks are stored, and earlier edits of the same prompts answer no more
        self._store(write, prompts, masks)
        pairs = zip(fitted, masks, strict=True)
        return [Fitted(losses, steps, mask.cpu(), said) for (losses, steps, said), mask in pairs]

    @property
    def _prepacked(self) -> dict:
        """The maps above the edited layer, for an edit's steps (`packed.py`)."""
        if self._packed is None:
            above = self._layers()[self.config.layer + 1 :]
            self._packed = prepack([*above, self.model.get_output_embeddings()])
        return self._packed

    def __getstate__(self) -> dict:
        """For deep copies and pickles; what was packed is packed again."""
        return super().__getstate__() | {"_packed": None}

    def _prepare_rows(self, edits: Sequence[Edit]) -> Batch:
        """The rows of edits and what the frozen layers make of them, in one pass.

        Where the question alone asks, the memory acts from its last token on. What stands before that is no part of
        the rows, and is read beforehand by the base model: of "Paris is large. Who wrote Hamlet?" and the target
        "Bacon" the row is "? Bacon", behind the keys and values of "Paris is large. Who wrote Hamlet".
        """
        own = [[*self._formats.rows(*edit, self.prefixes, len(self.edits) + i)] for i, edit in enumerate(edits)]
        ways = [*chain(*own)]  # each: tokens of prompts, and of targets, of one way of asking
        edit_of_way = [edit for edit, its_ways in enumerate(own) for _ in its_ways]
        befores, afters = ([*chain(*column)] for column in zip(*ways, strict=True))
        question_starts, memory_starts = zip(*map(self._starts, befores), strict=True)
        cut = zip(befores, memory_starts, strict=True)
        heads, prompts = zip(*((before[:start], before[start:]) for before, start in cut), strict=True)
        rows = self._rows([*prompts], afters, begun=max(memory_starts))
        past = self._past([*heads], question_starts) if any(memory_starts) else None
        frozen = (self._frozen if len(ways) == 1 else self._frozen_of_many)(rows, past)
        numbers = torch.arange(len(ways)).repeat_interleave(torch.tensor([len(way) for way, _ in ways]))
        return Batch(rows, frozen, numbers.to(rows.input_ids.device), edit_of_way)

    def _starts(self, before: list[int]) -> tuple[int, int]:
        """Of a row's prompt: the first token of its question, and the first one that the memory acts on."""
        asked = self._formats.questions(before) if self._formats.questions else []
        return (asked[-1].first, asked[-1].stop - 1) if asked else (0, 0)

    def _masks_and_inputs(self, batch: Batch, prompts: Sequence[str]) -> tuple[Tensor, Batch]:
        """The masks of the edits' prompts, (E, D) bool, and the batch with what the memory reads in its rows.

        Where questions ask, they are read alone: for their masks, and in place of what each row has from the question's
        last token to the answer, so that a row is written with the inputs that it will be answered with.
        """
        rows, bare = batch.rows, batch.bare_rows
        if not self._formats.questions:
            return self.memory.mask_of(batch.frozen.activations[bare], rows.prompt[bare]), batch
        questions = self._ids(prompts)
        tails = [tuple(ids[own].tolist()[1:]) for ids, own in zip(rows.input_ids, rows.prompt, strict=True)]
        asked = [(tuple(questions[i]), tail) for i, tail in zip(batch.edit_of_row.tolist(), tails, strict=True)]
        # each question is read once with each tail; one that a longer tail begins with is read with that
        read: list[tuple] = []
        for one in sorted(set(asked), key=lambda one: -len(one[1])):
            if not any(_begins(other, one) for other in read):
                read.append(one)
        features, inputs_alone = self._read(*([*map(list, column)] for column in zip(*read, strict=True)))
        places = [next(i for i, other in enumerate(read) if _begins(other, one)) for one in asked]
        masks = self.memory.mask_of_features(features[[places[row] for row in bare]])
        here = [inputs_alone[i][: 1 + len(tail)] for i, tail in zip(places, tails, strict=True)]
        return masks, batch.with_inputs(here)

    def _store(self, write: DualUpdate, prompts: Sequence[str], masks: Tensor) -> None:
        """Change W_m and P, then the stored masks; FloatingPointError, before any of it, for weights not finite."""
        if not torch.isfinite(write.largest()):
            raise FloatingPointError("The memory's weights are no longer finite: the edit was not stored. Lower lr.")
        write.store()
        # the same prompt up to trailing spaces: its old mask must not go on answering once this edit is forgotten
        self.memory.forget([edit for prompt in prompts for edit in self._edits_of(prompt)])
        self.memory.store(tophash.pack(masks))

    def _need_joint(self) -> None:
        super()._need_joint()
        if self._formats.formats:
            raise ValueError(
                "formats give an edit further rows, each behind a text of its own, which are looked at one at a time: "
                "leave batch at 1, or make the editor without formats."
            )

    @in_turn
    def forget(self, edit: int) -> tuple[float, float]:
        """Take an edit, by its index, out of routing for good: no question is answered by it any more.

        Its mask is cleared; the indices of the other edits stay, and so does all of W_m. What the edit wrote there
        cannot be taken out: only the sum of all edits is kept, later ones were trained on top of it, and those that
        share columns with it go on reading it. Returns two Frobenius norms, of W_m in the columns of its mask, where
        it wrote under the paper's update together with others (under rls also beyond), and of all of W_m. To leave no
        trace, write the other edits with a new editor.
        ValueError when there is no such edit or it was forgotten, or replaced by a later edit of its prompt, before.
        """
        self._need_attached()
        if inputs.as_int(edit, "edit", -math.inf) not in range(len(self.edits)):
            raise ValueError(f"There is no edit {edit!r} to forget: the edits are numbered 0 to {len(self.edits) - 1}.")
        if edit in self.memory.forgotten:
            raise ValueError(f"Edit {edit} was forgotten already, or replaced by a later edit of its prompt.")
        mask = tophash.unpack(self.memory.masks[edit], self.memory.size).to(self.memory.weight.device)
        written, whole = self.memory.weight[:, mask].norm().item(), self.memory.weight.norm().item()
        self.memory.forget([edit])
        return written, whole

    # ---- routing

    @in_turn
    def route(self, prompts: Sequence[str] | str) -> list[Route] | Route:
        """For each prompt the index of the edit that answers it, or None, and its best overlap share in [0, 1]."""
        self._need_attached()
        found = self._routed([self._formats.question(prompt) for prompt in several(prompts)])
        return found[0] if isinstance(prompts, str) else found

    @in_turn
    def route_chat(self, conversations: Conversation | Sequence[Conversation]) -> list[Route] | Route:
        """As `route`, for the next message of each conversation."""
        self._need_attached()
        whole = [rendered(self.tokenizer, one) for one in as_conversations(conversations)]
        # the template has written the special tokens of a conversation; a question of its own has them put before it
        ids = [self.tokenizer(text, add_special_tokens=False).input_ids for text in whole]
        asked = [self._formats.question(text) for text in whole]
        found = self._routed(asked, None if self._formats.questions else ids)
        return found[0] if isinstance(conversations[0], Mapping) else found

    def _routed(self, asked: list[str], ids: list[list[int]] | None = None) -> list[Route]:
        if self._router:
            return self._router(asked, self.edits, self.memory.forgotten)
        ids = [texts.prompt_ids(self.tokenizer, question) for question in asked] if ids is None else ids
        return self._matched(self._masks(ids), asked)

    def _route_turns(self, asked: list[Turn]) -> list[Turn]:
        """Turns with where their questions go. Where an edit answers, the memory reads up to the answer what it would
        read if the edit's own prompt stood there alone: what was learnt is said to every question that finds it."""
        routes = self._routed([turn.text for turn in asked])
        some = [i for i, route in enumerate(routes) if route.edit is not None]
        _, alone = self._read(
            self._ids([self.edits[routes[i].edit].prompt for i in some]), [[*asked[i].tail] for i in some]
        )
        read = dict(zip(some, alone, strict=True))
        return [turn._replace(route=routes[i], read=read.get(i)) for i, turn in enumerate(asked)]

    def _matched(self, masks: Tensor, asked: Sequence[str]) -> list[Route]:
        """Where questions go by their masks (B, D), among the edits that the lexical gate lets answer them."""
        gate, prompts = self._gate, [edit.prompt for edit in self.edits] if self._gate else []
        return self.memory.route(
            masks, gate.allowed(asked, prompts, self.memory.masks, self.memory.changes) if gate else None
        )

    def _route_prompts(self, tokens: Tensor, positions: Tensor, activations: Tensor) -> list[Route]:
        """Where whole prompts go whose words have a say: tokens (B, T), their prompts at positions (B, T) bool."""
        if tokens.is_floating_point():
            raise ValueError("Routing by words reads what is asked: ask with input_ids, not inputs_embeds.")
        prompts = [own[at] for own, at in zip(tokens.cpu(), positions.cpu(), strict=True)]
        asked = self.tokenizer.batch_decode(prompts, skip_special_tokens=True)
        if self._router:
            return self._routed(asked)
        return self._matched(self.memory.mask_of(activations, positions), asked)

    @in_turn
    def calibrate(
        self,
        irrelevant_prompts: Sequence[str],
        false_positive_rate: float = 0.01,
        *,
        against: Sequence[str] | None = None,
    ) -> float:
        """Set τ to the least overlap that at most this share of the irrelevant prompts reaches; returns it.

        The prompts are compared with the stored edits or, to choose τ beforehand, with the prompts `against`. The more
        there are, the higher τ comes out. ValueError without either kind of prompt, for a rate outside [0, 1] or one
        that no τ gives, or where another router than the masks is asked, which has no τ.
        """
        if self._router:
            raise ValueError("calibrate chooses τ, of the masks; this editor does not route by it.")
        inputs.as_share(false_positive_rate, "false_positive_rate")
        irrelevant_prompts = several(irrelevant_prompts, "irrelevant_prompts")
        against = several([] if against is None else against, "against")
        if not irrelevant_prompts or not (against or len(self.memory.forgotten) < len(self.edits)):
            raise ValueError("calibrate compares irrelevant prompts with stored edits: it needs some of both.")
        stored = tophash.pack(self.masks(against)) if against else self.memory.masks
        best = tophash.overlap_counts(tophash.pack(self.masks(irrelevant_prompts)), stored).max(axis=1)
        threshold = tophash.threshold_for(best, self.config.k, false_positive_rate)
        if threshold > 1:
            raise ValueError(
                f"{(best == self.config.k).sum()} of {len(best)} irrelevant prompts have the very mask of an edit: no "
                f"τ keeps them apart at a rate of {false_positive_rate}. Leave them out, or allow a higher rate."
            )
        self.memory.set_threshold(threshold)
        return self.memory.threshold

    def _routes(self, rows: int) -> list[Route]:
        return self._hooks.routes or [Route(None, 0.0)] * rows

    # ---- masks and activations

    @in_turn
    def masks(self, prompts: Sequence[str]) -> Tensor:
        """M(x) of each prompt: (N, D) bool; one str is a list of one."""
        return self._masks(self._ids(prompts))

    def _masks(self, ids: list[list[int]]) -> Tensor:
        return self.memory.mask_of_features(self._features(ids))

    @in_turn
    def features(self, prompts: Sequence[str]) -> Tensor:
        """The mean activation over each prompt's tokens (or its question's), before μ is taken off: (N, D) float32."""
        return self._features(self._ids(prompts))

    def _ids(self, prompts: Sequence[str]) -> list[list[int]]:
        return [texts.prompt_ids(self.tokenizer, self._formats.question(prompt)) for prompt in several(prompts)]

    def _features(self, ids: list[list[int]]) -> Tensor:
        found = torch.empty(len(ids), self.memory.size, dtype=torch.float32, device=self.memory.mu.device)
        for batch, activations, positions in self._activations(ids):
            found[batch] = self._feature(activations, positions)
        return found

    def _read(self, ids: list[list[int]], tails: list[list[int]]) -> tuple[Tensor, list[Tensor]]:
        """Of prompts, each by itself: the features (N, D), and a_t at its last token and the t tokens of its tail,
        (1 + t, D), float32. These are copies: a view would keep the activations of a whole batch."""
        features = torch.empty(len(ids), self.memory.size, dtype=torch.float32, device=self.memory.mu.device)
        alone: list[Tensor] = [features] * len(ids)
        for batch, activations, positions in self._activations(ids, tails):
            features[batch] = self._feature(activations, positions)
            for i, own in zip(batch, activations, strict=True):
                end = len(ids[i]) + len(tails[i])
                alone[i] = own[len(ids[i]) - 1 : end].to(torch.float32, copy=True)
        return features, alone

    def _feature(self, activations: Tensor, prompt_positions: Tensor) -> Tensor:
        return tophash.prompt_feature(activations, prompt_positions)

    def _activations(
        self, ids: list[list[int]], tails: list[list[int]] | None = None
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """a_t of prompts, and of tails behind them, in batches: their indices, (B, T, D), and where the prompts are,
        (B, T) bool."""
        self._need_attached()
        for batch in by_length(ids):
            rows = self._rows([ids[i] for i in batch], [tails[i] for i in batch] if tails else None)
            yield batch, self._frozen(rows).activations, rows.prompt

    def _layers(self) -> nn.ModuleList:
        """The model's decoder layers."""
        return self.model.get_submodule(self.family.layers)

    def _frozen(self, rows: texts.Rows, past: PastKeyValues | None = None) -> FrozenActivations:
        """What the layers up to the edited one make of the rows."""
        with self.base():
            return run_frozen(self.model, self.family, self.config.layer, rows.input_ids, rows.attention_mask, past)

    def _frozen_of_many(self, rows: texts.Rows, past: PastKeyValues | None = None) -> FrozenActivations:
        """The same, but for the last digit: of padding little is computed."""
        with without_padding(self._layers()[: self.config.layer], rows.attention_mask.nonzero(as_tuple=True)):
            return self._frozen(rows, past)

    # ---- what is saved

    def edits_table(self) -> pd.DataFrame:
        """`EditedModel.edits_table`, and match: the largest share of its mask that an edit has with an earlier one."""
        masks = self.memory.masks
        best = [tophash.overlap_counts(masks[i : i + 1], masks[:i]).max(initial=0) for i in range(len(masks))]
        return super().edits_table().assign(match=np.array(best) / self.config.k)

    def _settings(self) -> dict:
        made = {"threshold": self.memory.threshold, "seed": self.config.seed, "background": list(self.background)}
        made |= {"prefixes": list(self.prefixes), "family": asdict(self.family)}
        return self.config.tuned() | made | self.config.extensions()

    @classmethod
    def _from_settings(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: dict) -> "Memoir":
        return cls(model, tokenizer, **settings | {"family": Family(**settings["family"])})

    def _tensors(self) -> dict[str, Tensor]:
        masks = torch.from_numpy(self.memory.masks)
        return self.memory.state_dict() | {"masks": masks} | self.projector.tensors()

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        masks, forgotten = tensors.pop("masks"), self.memory.forgotten
        self.projector.restore(tensors)
        self.memory.load_state_dict(tensors)
        self.memory.clear()
        self.memory.store(masks.numpy())
        # a checkpoint of before does not bring back what was forgotten since
        self.memory.forget([edit for edit in forgotten if edit < len(masks)])


def _begins(one: tuple, other: tuple) -> bool:
    """Whether a question and its tail are another's with more behind it."""
    return one[0] == other[0] and one[1][: len(other[1])] == other[1]
