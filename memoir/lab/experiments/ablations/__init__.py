"""What each part of the method contributes, beside the paper's Tables 5, 11 and 12 and Figure 6 (notebook 08).
Reads finished streams; the exchanged parts stand in `evidence/ablated.py`."""
