"""What each part of the method contributes, and the paper's tables of the same (notebook 08).
Reads finished streams; the exchanged parts stand in `evidence/ablated.py`."""
