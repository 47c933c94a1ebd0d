"""Can it be better: an update that does not overwrite, and routing that tells neighbours apart (notebook 12).
Measures editors offline and reads finished streams; the update itself stands in `rls.py`, the gate in `gate.py`."""
