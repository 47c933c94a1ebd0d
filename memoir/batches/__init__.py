"""Several edits of different prompts at once: which make a batch, and its steps, in one pass through the tail."""
