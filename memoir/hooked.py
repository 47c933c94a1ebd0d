"""Methods that answer beside the model's own map, through an `Attachment`, and never write its weights."""

from contextlib import AbstractContextManager

from torch import Tensor
from transformers import PreTrainedModel

from memoir.attach import Attachment
from memoir.interface.editing import EditedModel
from memoir.interface.threads import in_turn


class HookedModel(EditedModel):
    """An editor whose edits live in its own memory, attached to the model."""

    _hooks: Attachment

    def base(self) -> AbstractContextManager[None]:
        """Within `with editor.base():` the model answers as if nothing had been edited."""
        return self._hooks.off()

    @in_turn
    def detach(self) -> None:
        """Leave the model as it was found: the base model again, bit for bit. What is stored can still be saved."""
        if self._attached:
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
