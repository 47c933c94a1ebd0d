"""Memoir: edit a model through a residual memory, and ask it.

An edit calls, from top to bottom, eight files, each in one place:

    interface/editing.py, edit         notes what `_edit` did; where that raises, nothing has changed
      editor._edit                     the recipe: the lines below
        forms.Forms.rows               prompt and target as rows of tokens, in each way of asking
        prefix.run_prefix              the layers up to the edited one once; `run_tail` those above it at every step
        memory.mask_of, then store     the prompt's mask, by `tophash.top_hash`; it is stored when the steps have ended
        fit.fit                        the steps, until the target is learnt
        rls.Write                      what the steps make of the gradients, and their change of W_m

How a model is hooked: `attach.py`; asked: `asking.py`; notebook 12's update: `rls.py`; other routing: `routing/`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts, tophash
from memoir.attach import Attachment
from memoir.batches.joint import Batch, fit_batch, followed, without_padding
from memoir.checks import host, inputs
from memoir.conversation.before import Before, Texts
from memoir.conversation.forms import Forms
from memoir.conversation.template import rendered
from memoir.facts.reading import background_prompts
from memoir.fit import fit
from memoir.hooked import HookedModel
from memoir.interface.asking import Edit, by_length, several
from memoir.interface.chatting import Conversation, checked
from memoir.interface.threads import in_turn, made_plainly
from memoir.memory import ResidualMemory, Route
from memoir.models.registry import Family, edited_map, family_of, settings_for
from memoir.packed import pack
from memoir.prefix import Prefix, on, replaced, run_prefix, run_tail
from memoir.rls import Write, projector
from memoir.routing.gate import LexicalGate
from memoir.routing.router import ROUTERS, Router
from memoir.theory.overlap import threshold_for
from memoir.turns import Turn


class Memoir(HookedModel):
    """Edits `model` through a residual memory beside one Linear map (paper, section 3).

    layer counts decoder layers from 0; k is the number of ones in a mask; threshold is τ; others: lr, n_iter,
    weight_decay, n_prefixes, stop_loss and stop_change as in `Settings`. Where layer, k or threshold is left out, the
    model must be of the registry, whose settings for it are then taken for all that is not given. seed fixes the
    permutation π and the self-generated prefixes. background: the irrelevant prompts whose mean feature is μ (100 of
    OpenFacts by default). prefixes: texts put before an edit's prompt; by default n_prefixes that the model generates
    itself. update: "sgd" as in the paper, or "rls", which keeps what earlier edits read (`rls.py`) with λ = ridge, by
    the `rank` strongest directions alone when a rank is given. sigma: demand a lexical gate (`routing/gate.py`): an
    edit answers only questions that have this share of the words that tell it from its neighbours; None, the default,
    is the paper's routing. router: by what a question goes to its edit, the paper's "masks" or, in their place, the
    "words" of the stored prompts, or their words and the "meaning" (`routing/router.py`). span: the mask is made from
    all of a "prompt", as in the paper, or from the "question" in it (`conversation/question.py`), read as if it stood
    alone; the memory acts from its last token on then, in the last turn of a conversation alone, and reads up to the
    answer what it would read at the edit's own prompt (`turns.py`).
    formats: ways of asking that get rows of their own while an edit is written (`conversation/forms.py`): "chat",
    "cue", "context". end: the target's end is learnt with it.
    A bad argument is a ValueError or a TypeError that names it, and leaves the model as it was.

    While the editor is attached, `model.save_pretrained` writes the base model WITHOUT the edits: `save` keeps them.
    """

    method = "memoir"

    @made_plainly
    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layer: int | None = None,
        k: int | None = None,
        threshold: float | None = None,
        seed: int = 0,
        background: Sequence[str] | None = None,
        prefixes: Sequence[str] | None = None,
        family: Family | None = None,
        update: str = "sgd",
        ridge: float = 10.0,
        rank: int | None = None,
        sigma: float | None = None,
        router: str = "masks",
        span: str = "prompt",
        formats: Sequence[str] = (),
        end: bool = False,
        **others,
    ):
        host.check(model, tokenizer)
        self.family = family or family_of(model)
        named = {"layer": layer, "k": k, "threshold": threshold}
        others |= {name: value for name, value in named.items() if value is not None}
        self.settings = settings_for(model, others)
        layer, k, threshold = self.settings.layer, self.settings.k, self.settings.threshold
        linear = edited_map(model, self.family, layer)
        if update not in ("sgd", "rls"):
            raise ValueError(f"update = {update!r} is unknown: it is 'sgd', the paper's, or 'rls'.")
        if update == "rls" and (weight_decay := self.settings.weight_decay):
            raise ValueError(f"weight_decay = {weight_decay} would erase what update = 'rls' keeps: it must be 0.")
        self.seed = inputs.whole(seed, "seed", 0)
        self.background = tuple(background_prompts() if background is None else inputs.texts(background, "background"))
        layers = model.get_submodule(self.family.layers)
        device = linear.weight.device
        self._beyond = {"update": update, "ridge": ridge, "rank": rank} if update == "rls" else {}
        self._beyond |= {} if sigma is None else {"sigma": sigma}
        self._gate = None if sigma is None else LexicalGate(sigma)
        self._forms = Forms(tokenizer, span, tuple(formats), end)
        if router not in ROUTERS:
            raise ValueError(f"router = {router!r} is unknown: it is {', '.join(map(repr, ROUTERS))}.")
        if router != "masks" and self._gate:
            raise ValueError(f"sigma goes with router = 'masks': {router!r} looks at words itself.")
        self._router = None if router == "masks" else Router(router, self._forms.question, tokenizer)
        self._beyond |= {} if router == "masks" else {"router": router}
        self._beyond |= self._forms.chosen()
        self.projector = projector(update, linear.in_features, ridge, rank, device)
        permutation = tophash.random_permutation(linear.in_features, seed)
        self.memory = ResidualMemory(linear.in_features, linear.out_features, k, threshold, permutation, device)
        super().__init__(model, tokenizer)
        self._hooks = Attachment(model, linear, self.memory, self.lock)
        self._texts = Texts(model, self._hooks.off)  # not `self.base`: an editor that refers to itself stays in memory
        if self._forms.questions:
            self._hooks.questions, self._hooks.routed = self._forms.questions, self._answering
        if self._gate or self._router:
            self._hooks.choose = self._chosen
        self._tail = pack([*layers[layer + 1 :], model.get_output_embeddings()])
        try:
            self.memory.mu.copy_(self.features(self.background).mean(dim=0))
            if prefixes is None:
                prefixes = texts.self_generated_prefixes(model, tokenizer, self.settings.n_prefixes, seed)
            self.prefixes = tuple(inputs.texts(prefixes, "prefixes"))
        except BaseException:
            self.detach()
            raise

    def _edit(self, prompt: str, target: str) -> tuple[list[float], int, Tensor]:
        """One run of masked SGD on W_m; then the mask is stored (paper, section 3)."""
        batch = self._ways([*self._forms.rows(prompt, target, self.prefixes, len(self.edits))])
        mask, batch = self._asked_in(batch, [prompt], [0])
        read, how = batch.prefix.activations, self.settings
        keys = read[on(read.device, *batch.prefix.real)][:, mask[0]]
        write = Write(self.projector, self.memory.weight, [(keys, mask[0])], how.lr, how.weight_decay)
        tail = partial(run_tail, self.model, self.family, how.layer)
        with replaced(self._tail):
            losses = fit(batch.apart(), write, tail, how, partial(batch.losses, tail))
        self._store(write, [prompt], mask)
        return losses, write.steps, mask[0].cpu()

    def _store(self, write: Write, prompts: Sequence[str], masks: Tensor) -> None:
        _need_finite(write.largest())
        write.store()
        # the same prompt up to trailing spaces: its old mask must not go on answering once this edit is forgotten
        self.memory.forget([edit for prompt in prompts for edit in self._edits_of(prompt)])
        self.memory.store(tophash.pack(masks))

    def _asked_in(self, batch: Batch, prompts: Sequence[str], places: list[int]) -> tuple[Tensor, Batch]:
        """The masks of E prompts, which stand in these rows of a batch: (E, D) bool. Where questions ask they are read
        alone, for their masks and for what the memory reads at their ends, in all rows of the batch."""
        if not self._forms.questions:
            return self.memory.mask_of(batch.prefix.activations[places], batch.rows.prompt[places]), batch
        ids, rows = self._ids(prompts), batch.rows
        owners = (torch.bucketize(torch.arange(len(rows.input_ids)), torch.tensor(places), right=True) - 1).tolist()
        befores = [row[own].tolist() for row, own in zip(rows.input_ids, rows.prompt, strict=True)]
        tails = [before[start + 1 :] for before, start in zip(befores, batch.starts.tolist(), strict=True)]
        # of each question's tails the longest first: a shorter one that it begins with is read with it
        asked = [(tuple(ids[own]), tuple(tail)) for own, tail in zip(owners, tails, strict=True)]
        each: list[tuple] = []
        for one in sorted(set(asked), key=lambda one: -len(one[1])):
            if not any(_begins(other, one) for other in each):
                each.append(one)
        features, alone = self._read(*([*map(list, column)] for column in zip(*each, strict=True)))
        read = [next(i for i, other in enumerate(each) if _begins(other, one)) for one in asked]
        masks = self.memory.mask_of_features(features[[read[place] for place in places]])
        return masks, batch.reading([alone[i][: 1 + len(tail)] for i, tail in zip(read, tails, strict=True)])

    def _need_batches(self) -> None:
        if self._forms.formats:
            raise ValueError(
                "formats give an edit further rows, each behind a text of its own, which are looked at one at a time: "
                "leave batch at 1, or make the editor without formats."
            )

    def _edit_batch(self, edits: Sequence[Edit]) -> list[tuple[list[float], int, Tensor]]:
        """`_edit` for several edits of different prompts, as one joint write (`batches/joint.py`)."""
        layers, how = self.model.get_submodule(self.family.layers), self.settings
        befores, afters = zip(*(next(self._forms.rows(*edit, self.prefixes, 0)) for edit in edits), strict=True)
        rows = self._rows([*chain(*befores)], [*chain(*afters)])
        prefix = replace(self._prefix_of_many(rows), real=followed(rows))
        starts = [self._start(before)[1] for before in chain(*befores)]
        batch = Batch.of_edits(rows, prefix, [len(own) for own in befores], starts)
        prompts = [edit.prompt for edit in edits]
        masks, batch = self._asked_in(batch, prompts, batch.firsts)
        write = Write(self.projector, self.memory.weight, batch.keys(masks), how.lr, how.weight_decay)
        with replaced(self._tail):
            tail = partial(run_tail, self.model, self.family, how.layer)
            found = fit_batch(batch, write, tail, layers[how.layer + 1 :], how)
        self._store(write, prompts, masks)
        return [(*own, mask.cpu()) for own, mask in zip(found, masks, strict=True)]

    @in_turn
    def forget(self, edit: int) -> tuple[float, float]:
        """Take an edit, by its index, out of routing for good: no question is answered by it any more.

        Its mask is cleared; the indices of the other edits stay, and so does all of W_m. What the edit wrote there
        cannot be taken out: only the sum of all edits is kept, later ones were trained on top of it, and those that
        share columns with it go on reading it. Returns two Frobenius norms, of W_m in the columns of its mask, which is
        what it wrote together with what the others wrote there, and of all of W_m. To leave no trace, write
        the other edits with a new editor.
        ValueError when there is no such edit or it was forgotten, or replaced by a later edit of its prompt, before.
        """
        self._need_attached()
        if inputs.whole(edit, "edit", -math.inf) not in range(len(self.edits)):
            raise ValueError(f"There is no edit {edit!r} to forget: the edits are numbered 0 to {len(self.edits) - 1}.")
        if edit in self.memory.forgotten:
            raise ValueError(f"Edit {edit} was forgotten already, or replaced by a later edit of its prompt.")
        mask = tophash.unpack(self.memory.masks[edit], self.memory.size).to(self.memory.weight.device)
        written, whole = self.memory.weight[:, mask].norm().item(), self.memory.weight.norm().item()
        self.memory.forget([edit])
        return written, whole

    def _ways(self, forms: list[tuple[list[list[int]], list[list[int]]]]) -> Batch:
        """An edit's ways of asking, read in one pass. Where the question alone asks, the memory acts from its last
        token on: what stands before it is no part of these rows, and the base model's."""
        befores, afters = ([*chain(*column)] for column in zip(*forms, strict=True))
        firsts, starts = zip(*map(self._start, befores), strict=True)
        heads = [before[:start] for before, start in zip(befores, starts, strict=True)]
        ends = [before[start:] for before, start in zip(befores, starts, strict=True)]
        rows = self._rows(ends, afters, begun=max(starts))
        behind = self._texts(heads, firsts) if any(starts) else None
        read = self._prefix if len(forms) == 1 else self._prefix_of_many
        return Batch.of_edits(rows, read(rows, behind), [len(own) for own, _ in forms])

    def _start(self, before: list[int]) -> tuple[int, int]:
        """Of a row: the first token of its question, and the first one that the memory acts on."""
        found = self._forms.questions(before) if self._forms.questions else []
        return (found[-1].first, found[-1].last - 1) if found else (0, 0)

    @in_turn
    def route(self, prompts: Sequence[str] | str) -> list[Route] | Route:
        """For each prompt the index of the edit that answers it, or None, and its best overlap share in [0, 1]."""
        found = self._routed([self._forms.question(prompt) for prompt in several(prompts)])
        return found[0] if isinstance(prompts, str) else found

    @in_turn
    def route_chat(self, conversations: Conversation | Sequence[Conversation]) -> list[Route] | Route:
        """As `route`, for the next message of each conversation."""
        found = self.route([rendered(self.tokenizer, one) for one in checked(conversations)])
        return found[0] if isinstance(conversations[0], Mapping) else found

    def _routed(self, asked: list[str]) -> list[Route]:
        if self._router:
            return self._router(asked, self.edits, self.memory.forgotten)
        ids = [texts.prompt_ids(self.tokenizer, question) for question in asked]
        return self._matched(self._masks(ids), asked)

    def _answering(self, asked: list[Turn]) -> list[Turn]:
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
        return self.memory.route(masks, gate.allowed(asked, prompts, self.memory.masks) if gate else None)

    def _chosen(self, tokens: Tensor, positions: Tensor, activations: Tensor) -> list[Route]:
        """Where whole prompts go whose words have a say: tokens (B, T), their prompts at positions (B, T) bool."""
        if tokens.is_floating_point():
            raise ValueError("Routing by words reads what is asked: ask with input_ids, not inputs_embeds.")
        prompts = [own[at] for own, at in zip(tokens.cpu(), positions.cpu(), strict=True)]
        asked = self.tokenizer.batch_decode(prompts, skip_special_tokens=True)
        if self._router:
            return self._routed(asked)
        return self._matched(self.memory.mask_of(activations, positions), asked)

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
        return [texts.prompt_ids(self.tokenizer, self._forms.question(prompt)) for prompt in several(prompts)]

    def _features(self, ids: list[list[int]]) -> Tensor:
        found = torch.empty(len(ids), self.memory.size, device=self.memory.mu.device)
        for batch, activations, positions in self._activations(ids):
            found[batch] = self._feature(activations, positions)
        return found

    def _read(self, ids: list[list[int]], tails: list[list[int]]) -> tuple[Tensor, list[Tensor]]:
        """Of prompts, each by itself: the features (N, D), and a_t at its last token and the t tokens of its tail,
        (1 + t, D), float32. These are copies: a view would keep the activations of a whole batch."""
        features, alone = torch.empty(len(ids), self.memory.size, device=self.memory.mu.device), [None] * len(ids)
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
            yield batch, self._prefix(rows).activations, rows.prompt

    def edits_table(self) -> pd.DataFrame:
        """`EditedModel.edits_table`, and match: the largest share of its mask that an edit has with an earlier one."""
        masks = self.memory.masks
        best = [tophash.overlap_counts(masks[i : i + 1], masks[:i]).max(initial=0) for i in range(len(masks))]
        return super().edits_table().assign(match=np.array(best) / self.settings.k)

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
        there are, the higher τ comes out. ValueError without either kind of prompt, for a rate outside [0, 1], or where
        another router than the masks is asked, which has no τ.
        """
        if self._router:
            raise ValueError("calibrate chooses τ, of the masks; this editor does not route by it.")
        inputs.share(false_positive_rate, "false_positive_rate")
        irrelevant_prompts = several(irrelevant_prompts, "irrelevant_prompts")
        against = several([] if against is None else against, "against")
        if not irrelevant_prompts or not (against or len(self.memory.forgotten) < len(self.edits)):
            raise ValueError("calibrate compares irrelevant prompts with stored edits: it needs some of both.")
        stored = tophash.pack(self.masks(against)) if against else self.memory.masks
        best = tophash.overlap_counts(tophash.pack(self.masks(irrelevant_prompts)), stored).max(axis=1)
        self.memory.set_threshold(threshold_for(best, self.settings.k, false_positive_rate))
        return self.memory.threshold

    def _prefix(self, rows: texts.Rows, behind: Before | None = None) -> Prefix:
        with self.base():
            return run_prefix(self.model, self.family, self.settings.layer, rows.input_ids, rows.attention_mask, behind)

    def _prefix_of_many(self, rows: texts.Rows, behind: Before | None = None) -> Prefix:
        """The same, but for the last digit: of padding little is computed."""
        layers = self.model.get_submodule(self.family.layers)[: self.settings.layer]
        with without_padding(layers, rows.attention_mask.nonzero(as_tuple=True)):
            return self._prefix(rows, behind)

    def _routes(self, rows: int) -> list[Route]:
        return self._hooks.routes or [Route(None, 0.0)] * rows

    def _settings(self) -> dict:
        return asdict(self.settings) | {
            "threshold": self.memory.threshold,
            "seed": self.seed,
            "background": list(self.background),
            "prefixes": list(self.prefixes),
            "family": asdict(self.family),
            **self._beyond,
        }

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


def _need_finite(largest: Tensor) -> None:
    if not torch.isfinite(largest):
        raise FloatingPointError("The memory's weights are no longer finite: the edit was not stored. Lower lr.")


def _begins(one: tuple, other: tuple) -> bool:
    """Whether a question and its tail are another's with more behind it."""
    return one[0] == other[0] and one[1][: len(other[1])] == other[1]
