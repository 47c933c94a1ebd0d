"""What masks share: TopHash, the law of overlap against real masks, and what edits do to each other (notebooks 01, 02).
Measures models and edits a short stream for it; knows nothing of the plan and its long streams."""
