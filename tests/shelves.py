"""Eight records of one template, and what two editors that hold the same edits have in common."""

import numpy as np
import torch

from memoir import EditRecord, Memoir

RECORDS = [
    EditRecord(id=str(i), subject=f"item {i}", prompt=f"Where is item {i} kept?", target=f"on shelf {i * 7}")
    for i in range(8)
]


def assert_same_state(a: Memoir, b: Memoir) -> None:
    """Same weights, same masks, same edits, bit for bit."""
    assert torch.equal(a.memory.weight, b.memory.weight)
    np.testing.assert_array_equal(a.memory.masks, b.memory.masks)
    assert a.edits == b.edits
