"""Can it be better: an update that does not overwrite, and routing that tells neighbours apart (notebook 12).
Measures keys and routing without editing, reads finished streams; `update.py` and `routing/gate.py` hold the method."""
