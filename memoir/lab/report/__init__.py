"""What a reader gets: every figure and table, the verdicts, the page, and the parts of the README that are rendered.
Finds the experiments by their folders and knows none of them by name."""
