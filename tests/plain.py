"""The plain way to make an edit, for comparison: the whole model at every step, logits everywhere, all of W_m in the
optimiser. Written from the paper's description alone; shares only tokenisation and the mask with the editor."""

import torch
from torch.nn.functional import cross_entropy

from memoir import texts
from memoir.editor import Memoir
from memoir.update import GRADIENT_NORM


def plain_losses(editor: Memoir, prompt: str, target: str, steps: int) -> list[float]:
    """Losses of `steps` steps of SGD from the editor's present memory, which is put back afterwards."""
    after = texts.target_ids(editor.tokenizer, prompt, target)
    befores = [texts.prompt_ids(editor.tokenizer, t) for t in [prompt, *(f"{p}. {prompt}" for p in editor.prefixes)]]
    rows = editor._rows(befores, [after] * len(befores))
    mask = editor.masks([prompt]).expand(len(befores), -1)
    labels = torch.where(rows.target, rows.input_ids, -100)[:, 1:]
    saved = editor.memory.weight.clone()
    weight = editor.memory.weight.requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=editor.config.lr, weight_decay=editor.config.weight_decay)
    losses = []
    for _ in range(steps):
        with editor._hooks.forced(mask):
            logits = editor.model(input_ids=rows.input_ids, attention_mask=rows.attention_mask, use_cache=False).logits
        # flat: over a vocabulary that is not the last dimension, float32 sums lose two digits
        tokens = cross_entropy(logits[:, :-1].float().flatten(0, 1), labels.flatten(), reduction="none").view(
            labels.shape
        )
        loss = (tokens.sum(dim=1) / rows.target.sum(dim=1)).mean()
        (weight.grad,) = torch.autograd.grad(loss, [weight])
        torch.nn.utils.clip_grad_norm_([weight], GRADIENT_NORM)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        weight.requires_grad_(False).copy_(saved)
    weight.grad = None
    return losses
