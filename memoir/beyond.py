"""What the second update protects: how far a write moves what earlier edits read, by λ and by the rank of P.

Measures keys of real edits through the projectors of `rls.py`; no edit is fitted. Knows editors and records.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import runs
from memoir.editor import Memoir
from memoir.interference import rows_of_edit
from memoir.records import EditRecord
from memoir.rls import projector

Keys = tuple[Tensor, Tensor]  # an edit's masked activations on its k columns, (n, k), and its mask (D,)


def keys_of(editor: Memoir, records: Sequence[EditRecord]) -> list[Keys]:
    """The keys that edits of these records would write with, prompt by prompt; nothing is edited."""
    masks = editor.masks([record.prompt for record in records])
    rows = (rows_of_edit(editor, record)[0] for record in records)
    return [(a[:, mask], mask) for a, mask in zip(rows, masks, strict=True)]


@torch.no_grad()
def protection(
    keys: Sequence[Keys], probes: int, ridges: Sequence[float], ranks: Sequence[int | None] = (None,)
) -> pd.DataFrame:
    """What the last `probes` edits would move of the others' answers, by λ and rank: a row per pair of them.

    moved: root mean square over the earlier edits' tokens of ‖ΔW u‖, over that at the writing edit's own tokens, for
    gradients without a preferred direction; exact, not sampled: ‖U P U_earlier^T‖_F against ‖U P U^T‖_F, each over the
    root of its number of tokens. λ = ∞ is the paper's update. used: tr(I − P), the directions that are taken.
    """
    size = len(keys[0][1])
    earlier, last = keys[:-probes], keys[-probes:]
    wide = torch.cat([_wide(*pair) for pair in earlier])
    found = []
    for ridge, rank in [(torch.inf, None), *((ridge, rank) for ridge in ridges for rank in ranks)]:
        p = projector(size, min(ridge, 1e30), rank, wide.device)
        for pair in earlier if ridge < torch.inf else ():
            p.add(*pair)
        moved = []
        for own, mask in last:
            seen = own @ p.rows(mask).float()  # U P
            there, here = seen @ wide.T, seen[:, mask] @ own.T
            moved.append((there.norm() / len(wide) ** 0.5 / (here.norm() / len(own) ** 0.5)).item())
        used = size - p.rows(torch.ones(size, dtype=torch.bool, device=wide.device)).trace().item()
        found.append({"ridge": ridge, "rank": rank or size, "moved": sum(moved) / len(moved), "used": used})
    return pd.DataFrame(found)


def run_updates(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: dict,
    ridge: float,
    dataset: str,
    at: Sequence[int],
) -> None:
    """Full streams of the same records under both updates, one after the other; finished ones are not run again."""
    for update, more in {"sgd": {}, "rls": {"update": "rls", "ridge": ridge}}.items():
        editor = Memoir(model, tokenizer, **options | more)
        try:
            runs.run_stream(
                runs.Stream("full", "beyond", f"{update}-{dataset}-{at[-1]}", dataset, at=tuple(at)), editor
            )
        finally:
            editor.detach()


def compared(profile: str, names: Sequence[str]) -> pd.DataFrame | None:
    """The metrics of finished streams of this experiment, with columns run and update; None when one is not there."""
    results = {name: runs.read_result(profile, "beyond", name) for name in names}
    if not all(results.values()):
        return None
    tables = [pd.DataFrame(result["metrics"]).assign(run=name) for name, result in results.items()]
    return pd.concat(tables, ignore_index=True)


def _wide(own: Tensor, mask: Tensor) -> Tensor:
    full = own.new_zeros(len(own), len(mask))
    full[:, mask] = own
    return full
