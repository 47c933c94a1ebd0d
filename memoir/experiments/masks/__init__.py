"""What masks share: TopHash, the law of overlap against real masks, and what edits do to each other (notebooks 01, 02).
Measures models and reads results; thresholds and streams of edits are made elsewhere."""
