"""Interference: what each edit of a real stream does to the answers stored before it.

Measures, on a live editor, the quantities that `theory/capacity.py` bounds and predicts. Knows editors and records.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from memoir import texts
from memoir.editor import Memoir
from memoir.facts.record import EditRecord
from memoir.frozen import run_frozen
from memoir.lab.evidence import runs


@torch.no_grad()
def lead(editor: Memoir, record: EditRecord) -> float:
    """Logit of the target's first token minus the best other logit, after the prompt, as the model answers now."""
    ids = texts.prompt_ids(editor.tokenizer, record.prompt)
    first = texts.target_ids(editor.tokenizer, record.prompt, record.target)[0]
    logits = editor.model(input_ids=torch.tensor([ids], device=editor.model.device)).logits[0, -1].float()
    own = logits[first].item()
    logits[first] = -torch.inf
    return own - logits.max().item()


@torch.no_grad()
def rows_of_edit(editor: Memoir, record: EditRecord) -> tuple[Tensor, Tensor]:
    """(rows, own): the activations that an edit of `record` trains on, (n, D), and the one its prompt ends in, (D,)."""
    after = texts.target_ids(editor.tokenizer, record.prompt, record.target)
    prompts = [record.prompt, *(f"{prefix}. {record.prompt}" for prefix in editor.prefixes)]
    befores = [texts.prompt_ids(editor.tokenizer, prompt) for prompt in prompts]
    rows = texts.rows_of(
        editor.tokenizer, befores, [after] * len(befores), side="right", limit=None, device=editor.model.device
    )
    with editor.base():
        a = run_frozen(editor.model, editor.family, editor.config.layer, rows.input_ids, rows.attention_mask)
    return a.activations[rows.prompt | rows.target].float(), a.activations[0, len(befores[0]) - 1].float()


@torch.no_grad()
@runs.quietly
def measure(editor: Memoir, records: Sequence[EditRecord]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Edit the records in order with a fresh editor and measure what each edit does to those before it.

    u_i = M_i ⊙ a_i at the prompt's last token. pairs, a row per earlier edit i and later edit j: share of the masks;
    cosine of u_i and u_j; norm, ‖ΔW_j‖; projected, ‖P_j u_i‖ of `capacity.drift_bounds`; moved, ‖ΔW_j u_i‖; drift, the
    length of the sum of all that moved u_i's answer so far. edits, a row per edit: own, ‖ΔW_i u_i‖ as written; length,
    ‖u_i‖; the leads before the edit, after it, and at the end.
    ValueError when weight decay is on: it changes columns that no edit reads, and the bound is not about that.
    """
    if editor.config.weight_decay or editor.edits:
        raise ValueError("Interference is measured with a fresh editor and weight_decay = 0.")
    memory, pairs, edits, sums = editor.memory, [], [], []
    keys, masks = [], []
    for j, record in enumerate(records):
        rows, a = rows_of_edit(editor, record)
        before, asked = memory.weight.clone(), lead(editor, record)
        mask = editor.edit(record.prompt, record.target).mask.to(a.device)
        change, u = memory.weight - before, a * mask
        basis = torch.linalg.qr((rows * mask).double().T).Q
        for i, (key, other) in enumerate(zip(keys, masks, strict=True)):
            step = change @ key
            sums[i] += step
            pairs.append({
                "i": i, "j": j, "share": (mask & other).sum().item() / memory.k,
                "cosine": nn.functional.cosine_similarity(u, key, dim=0).item(),
                "norm": change.norm().item(), "projected": (basis.T @ key.double()).norm().item(),
                "moved": step.norm().item(), "drift": sums[i].norm().item(),
            })  # fmt: skip
        keys.append(u)
        masks.append(mask)
        sums.append(torch.zeros_like(change[:, 0]))
        edits.append({"edit": j, "own": (change @ u).norm().item(), "length": u.norm().item(),
                      "norm": change.norm().item(), "before": asked, "after": lead(editor, record)})  # fmt: skip
    table = pd.DataFrame(edits)
    table["end"] = [lead(editor, record) for record in records]
    return pd.DataFrame(pairs), table
