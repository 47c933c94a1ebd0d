"""Memory that tensors left in the heap goes back to the system."""

import ctypes

import psutil
import pytest
import torch

from memoir.evidence import heap


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_what_is_free_is_given_back():
    process = psutil.Process()
    every = [torch.ones(2**14) for _ in range(4096)]  # 256 MiB in pieces that the heap holds
    kept = every[::64]
    del every
    before = process.memory_info().rss
    heap.give_back()
    assert before - process.memory_info().rss > 100 * 2**20 and all(piece.all() for piece in kept)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    heap.give_back()
