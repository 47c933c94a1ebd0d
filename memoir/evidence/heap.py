"""What a long run gives back: after long rows the C library keeps gigabytes of tensors that are gone."""

import ctypes


def give_back() -> None:
    """Return to the system what is free in the heap; does nothing where the C library is not glibc."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
