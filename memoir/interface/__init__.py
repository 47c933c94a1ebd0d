"""What every editing method offers, so that MEMOIR and what it is compared with differ in nothing else.

asking (`asking.py`), editing one by one and in sequence (`editing.py`), saving and going on (`keeping.py`, `store.py`).
"""
