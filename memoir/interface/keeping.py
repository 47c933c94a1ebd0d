"""How the edits of a method are kept: its state, saved and loaded, and a checkpoint that is gone on from.

What a file holds and how it is written stands in `store.py`; what the state is, the method says.
"""

from abc import abstractmethod
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.checks import host, inputs
from memoir.facts.record import EditRecord
from memoir.interface import card, store
from memoir.interface.asking import Edit
from memoir.interface.chatting import Chatting
from memoir.interface.threads import in_turn
from memoir.models.loading import tokenizer_hash, weights_hash
from memoir.texts import Verbatim


class Kept(Chatting):
    """Edits that can be saved. base_hash and tokenizer_hash name the model and its tokenizer as they were found."""

    method: str

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        super().__init__(model, tokenizer)
        self.base_hash, self.tokenizer_hash = weights_hash(model), tokenizer_hash(tokenizer)
        self.log: list[dict] = []  # a row per edit: steps, first_loss, last_loss, seconds

    @abstractmethod
    def detach(self) -> None:
        """Leave the model as it was found, bit for bit."""

    @abstractmethod
    def _settings(self) -> dict:
        """Everything but the edits that decides what the state becomes, fit for JSON."""

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """The state that edits change, and whatever is needed to go on from it."""

    @abstractmethod
    def _restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `_tensors` gave."""

    @in_turn
    def save(self, folder: Path | str) -> None:
        """Write state, settings, edits and the base model's hash to `folder`, in one atomic step; never pickle.

        Beside them lies a model card, README.md, unless the folder has a README of its own. ValueError when the base
        model is no longer the one that was edited: nothing could load the edits again.
        """
        folder = inputs.path(folder, "folder")
        card.put(folder, self._save(folder, 0), type(self).__name__)

    def _save(self, folder: Path, begun: int) -> dict:
        """The header of what was written. begun: how many edits there were when the call of `edit_all` began."""
        self._need_base()
        edits = [[*edit, isinstance(edit.target, Verbatim)] for edit in self.edits]
        header = {"method": self.method, "base_model": self.base_hash, "tokenizer": self.tokenizer_hash}
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        about = {"settings": self._settings(), "edits": edits, "begun": begun, "log": self.log, "versions": versions}
        store.write(folder, self._tensors(), header | about)
        return header | about

    def _need_base(self) -> None:
        """For methods that never write the base model: ValueError when its weights are not those that were edited."""

    @classmethod
    def load(cls, folder: Path | str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "Kept":
        """The editor saved in `folder`, on the same base model with the same tokenizer.

        ValueError, naming both, for another model, tokenizer or method; the model is then as it was.
        """
        folder = inputs.path(folder, "folder")
        host.check(model, tokenizer)
        tensors, header = store.read(folder)
        here = {"method": cls.method, "base_model": weights_hash(model), "tokenizer": tokenizer_hash(tokenizer)}
        for what, found in here.items():
            if header.get(what, found) != found:  # before format 2 the tokenizer was not noted
                raise ValueError(f"{folder} was saved with the {what} {header[what]}; here it is {found}.")
        editor = cls._from_settings(model, tokenizer, header["settings"])
        try:
            editor._restore(tensors)
        except BaseException:
            editor.detach()
            raise
        editor.edits, editor.log = _edits(header), header["log"]
        return editor

    @classmethod
    def _from_settings(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: dict) -> "Kept":
        """A fresh editor with what `_settings` gave."""
        return cls(model, tokenizer, **settings)

    def _resume(self, folder: Path, records: list[EditRecord]) -> int:
        """Take over the checkpoint in `folder`; returns how many of the records it already holds."""
        tensors, header = store.read(folder)
        if header["settings"] != self._settings():
            other = {k: v for k, v in header["settings"].items() if self._settings().get(k) != v}
            raise ValueError(f"The checkpoint {folder} was made with other settings ({other}). Name another folder.")
        edits, planned = _edits(header), [Edit(record.prompt, record.target) for record in records]
        # called again with the records that the checkpoint was made of, or with those that come after what is stored
        for begun in (header.get("begun", 0), len(self.edits)):
            done = len(edits) - begun
            here = self.edits == edits[:begun] or (self.edits == edits and done > 0)
            if here and 0 <= done <= len(planned) and edits[begun:] == planned[:done]:
                self._restore(tensors)
                self.edits, self.log = edits, header["log"]
                return done
        raise ValueError(f"The checkpoint {folder} holds other edits than these records. Name another folder.")


def _edits(header: dict) -> list[Edit]:
    """The edits of a saved state; before format 2 no target was `Verbatim`."""
    return [
        Edit(prompt, Verbatim(target) if any(as_it_is) else target) for prompt, target, *as_it_is in header["edits"]
    ]
