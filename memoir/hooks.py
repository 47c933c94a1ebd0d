"""Fasten a method to a live model: a hook on the edited map and one around the forward pass, and taking them off again.

Routes are kept on the key-value cache, so several generations may be interleaved. Threads take turns; what one of them
asks for (`off`, `prompt`) holds for that thread alone (`call.py`). What is added, the `Policy` says (`policy.py`).
"""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from memoir.call import CallState
from memoir.chat import turns
from memoir.checks import host
from memoir.memory import Route
from memoir.policy import Policy
from memoir.threads import in_turn

METHODS = {  # of the model, while it is edited
    "generate": "_generate", "save_pretrained": "_save_pretrained", "generate_batch": "_refuse",
    "init_continuous_batching": "_refuse", "continuous_batching_context_manager": "_refuse",
}  # fmt: skip


FIXED = (
    "What an edited model adds depends on the prompt, and a trace or an export would keep one prompt's route for all: "
    "detach the editor first."
)


class Attachment:
    """A hook on a model's edited Linear map and one around its forward pass; `remove` takes them off again.

    The weights are never written. The lock is held while the model answers.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        linear: nn.Module,
        policy: Policy,
        lock: threading.RLock,
        special: Sequence[int] = (),
    ):
        """special: ids of tokens that may stand for padding where there is no attention mask."""
        if "generate" in vars(model):
            raise RuntimeError(
                "This model has an editor already, and two would answer each other's prompts. Detach it first."
            )
        self.model, self.policy, self.state, self._lock = model, policy, CallState(), lock
        self._special = tuple(special)
        # the layers that hold the map: under gradient checkpointing they would run, and be routed, once more backwards
        self._holding = [
            m for m in model.modules() if isinstance(m, GradientCheckpointingLayer) and linear in {*m.modules()}
        ]
        self._linear, self._made_on, self._checksum = linear, host.state(linear), host.checksum(model)
        self._sampled, self._warned = host.sampled(model), False
        self._handle = linear.register_forward_hook(self._add)
        self._own_forward = vars(model.base_model).get("forward")  # accelerate sets one on the instance
        model.base_model.forward = self._forward
        for name, method in METHODS.items():
            setattr(model, name, getattr(self, method))

    def __getstate__(self) -> dict:
        """For deep copies and pickles of the model, which stay edited until `detach` is called on them."""
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "state")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, _lock=threading.RLock(), state=CallState())

    @property
    def attached(self) -> bool:
        """Whether it is still fastened to its model."""
        return getattr(vars(self.model).get("generate"), "__self__", None) is self

    def remove(self) -> None:
        """Take every hook of its own off: the model is the base model again. Once is enough; later it does nothing."""
        if not self.attached:
            return
        self._handle.remove()
        del self.model.base_model.forward
        if self._own_forward is not None:
            self.model.base_model.forward = self._own_forward
        for name in METHODS:
            delattr(self.model, name)
        self.policy.release()

    def need_unchanged(self) -> None:
        """ValueError when the model was cast, moved, wrapped, or its weights were changed since."""
        host.need_unchanged(self._linear, self._made_on)
        host.need_sampled(self.model, self._sampled)

    def need_base(self) -> None:
        """ValueError when the model's weights are no longer those that it had."""
        if host.checksum(self.model) != self._checksum:
            raise ValueError(
                "The base model's weights are no longer those that were edited (an adapter merged, a cast?): the "
                "edits could not be loaded again. Merge first and edit afterwards."
            )

    @property
    def routes(self) -> list[Route] | None:
        """Where the rows of this thread's latest forward pass went; None where nothing was routed."""
        return self.state.routes

    def prompt(self, positions: Tensor | None) -> AbstractContextManager[None]:
        """Route by these positions (B, P) bool; tokens to their right (a target, an answer) never count as prompt."""
        return self.state.holding(prompt=positions)

    def forced(self, masks: Tensor) -> AbstractContextManager[None]:
        """Answer through these masks (B, D) bool instead of routing."""
        return self.state.holding(forced=masks)

    def off(self) -> AbstractContextManager[None]:
        """Answer as the base model."""
        return self.state.holding(off=self.state.off + 1)

    def _generate(self, *args, **kwargs):
        """`model.generate`, which alone knows where the prompt ends, in however many pieces it is read."""
        generate, policy, state = type(self.model).generate, self.policy, self.state
        # 1. the prompt: its tokens, and which of them are no padding
        call = host.arguments(generate, self.model, *args, **kwargs)
        tokens = call.get("input_ids") if call.get("inputs") is None else call["inputs"]
        texts, mask = call.get("inputs_embeds") if tokens is None else tokens, call.get("attention_mask")
        if mask is None and texts is not None:
            mask = torch.ones(texts.shape[:2], dtype=torch.long, device=texts.device)
        config, cache = call.get("generation_config") or self.model.generation_config, call.get("past_key_values")
        chunked = call.get("prefill_chunk_size") or getattr(config, "prefill_chunk_size", None)
        prompt = None if mask is None else mask.bool()
        if prompt is not None and tokens is not None and call.get("inputs_embeds") is not None:
            prompt = prompt[:, -tokens.shape[1] :]  # virtual tokens may stand before it
        with self._lock, state.holding(prompt=prompt, text=tokens, begun=False):
            # 2. a filled cache: what stands in it as another turn's answer is taken off, to be read anew
            held = turns.length(cache)
            last = turns.last_turns(policy.questions, tokens, state.prompt) if held else None
            if last is not None and policy.n_edits and not state.off:
                turns.crop_stale(cache, len(tokens), last)
            elif held and state.off and turns.otherwise(cache, len(mask), None):
                turns.empty(cache)
            held = turns.length(cache)
            # 3. where one pass will see all that asks, it is routed there
            reaches_into_cache = held and (last is None or turns.crosses_cache(cache, len(tokens), last))
            if not (policy.n_edits and (chunked or reaches_into_cache)):
                return generate(self.model, *args, **kwargs)
            # 4. several passes, or a question that lies partly in the cache: it is routed beforehand, in a pass of all
            if tokens is None or tokens.shape[1] < mask.shape[1]:
                raise ValueError(
                    "A prompt whose beginning is in a cache, or that is read in chunks, is routed as a whole: pass "
                    "all of its tokens as input_ids."
                )
            with torch.no_grad():
                self.model.base_model(input_ids=tokens, attention_mask=mask, use_cache=False)
            if held and policy.questions is None and turns.otherwise(cache, len(tokens), state.routes):
                turns.empty(cache)
            with state.holding(given=(len(tokens), state.turns)):
                return generate(self.model, *args, **kwargs)

    def _save_pretrained(self, *args, **kwargs):
        """`model.save_pretrained`, which knows nothing of edits."""
        lost = f"save_pretrained writes the base model without its {self.policy.n_edits} edits; editor.save keeps them."
        warnings.warn(lost, stacklevel=2)
        return type(self.model).save_pretrained(self.model, *args, **kwargs)

    def _refuse(self, *_args, **_kwargs):
        raise NotImplementedError(turns.PACKED)

    @torch.compiler.disable(reason=FIXED)  # a compiled graph would not look at routes and masks again
    def _forward(self, *args, **kwargs):
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            raise RuntimeError(FIXED)
        base = self.model.base_model
        forward = self._own_forward or type(base).forward.__get__(base)
        with self._lock:
            self._begin(host.arguments(type(base).forward, base, *args, **kwargs))
            with _run_once(self._holding):
                output = forward(*args, **kwargs)
            if (cache := getattr(output, "past_key_values", None)) is not None:
                turns.note(cache, len(output.last_hidden_state), self.state.turns)
            return output

    def _begin(self, call: dict) -> None:
        """Set `tokens`, `past` and `turns` of this thread's state, before any layer runs; where questions ask, they are
        routed by it."""
        state, cache, places = self.state, call.get("past_key_values"), call.get("position_ids")
        tokens = call["input_ids"] if call.get("input_ids") is not None else call["inputs_embeds"]
        real, past = turns.padding_mask(tokens, call.get("attention_mask"), self._special), turns.length(cache)
        if len(tokens) > 1 and call.get("attention_mask") is None and state.prompt is None:
            self._warn_of_rows(past)
        state.make_room(tokens, past, turns.is_noted(cache))
        tokens = state.ids(tokens, past)
        foreign = {} if state.is_own(tokens, past) else {"prompt": None, "text": None, "given": None}
        with state.holding(**foreign):
            if state.given is not None:
                now = state.given_turns(len(tokens))
            else:
                known = turns.noted(cache, len(tokens)) if past else None
                now = self.policy.turns(state, tokens, real, past, known)
        state.tokens, state.past, state.turns = tokens, past, now
        if places is not None and not past and state.prompt is None:
            turns.need_one_text(places, real)

    def _warn_of_rows(self, past: int) -> None:
        """Once: what a batch asks without a mask and without the prompts' ends may be told wrongly."""
        if self.policy.n_edits and not (past or self.state.off or self._warned):
            self._warned = True
            warnings.warn(
                "Several rows were asked without an attention_mask: a row's padding and its answer are taken for a "
                "part of its question, which an edit may then miss. Pass an attention_mask, ask with editor.score, or "
                "evaluate with memoir.evaluating(editor).",
                stacklevel=6,
            )

    def _add(self, _module, args, output):
        """The hook of the edited map: its output as the policy has it. It may route the turns of this pass."""
        return None if self.state.off else self.policy.output(args[0], output, self.state)


@contextmanager
def _run_once(layers: list[GradientCheckpointingLayer]) -> Iterator[None]:
    """These layers keep what they compute for the way back, whatever checkpointing the others are under."""
    before = [layer.gradient_checkpointing for layer in layers]
    for layer in layers:
        layer.gradient_checkpointing = False
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.gradient_checkpointing = own


class Hooked:
    """What an editor does whose edits live in a memory of its own, through an `Attachment`: part of its class."""

    _hooks: Attachment
    _attached: bool

    def _need_attached(self) -> None:
        if not self._hooks.attached:
            self._attached = False  # `memoir.detach(model)` took it off
        super()._need_attached()  # type: ignore[misc]

    def base(self) -> AbstractContextManager[None]:
        """Within `with editor.base():` the model answers as if nothing had been edited."""
        return self._hooks.off()

    @in_turn
    def detach(self) -> None:
        """Leave the model as it was found: the base model again, bit for bit. What is stored can still be saved."""
        self._hooks.remove()
        self._attached = False

    def _prompt(self, positions: Tensor) -> AbstractContextManager[None]:
        return self._hooks.prompt(positions)

    def _need_unchanged(self) -> None:
        self._hooks.need_unchanged()

    def _need_base(self) -> None:
        self._hooks.need_base()


def detach(model: PreTrainedModel) -> None:
    """Take the editor off `model`, also where it is a deep copy of an edited model; ValueError when it has none."""
    attachment = getattr(vars(model).get("generate"), "__self__", None)
    if not isinstance(attachment, Attachment):
        raise ValueError("No editor is attached to this model: there is nothing to detach.")
    attachment.remove()
