"""Which models there are, their default settings, how they are loaded, and what the large ones take.
Knows weights and shapes, and imports nothing of facts, edits and results."""
