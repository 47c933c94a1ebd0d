"""What the facts look like, and what the untouched model knows of them (notebook 15).
Asks a model and edits nothing; its figures read one result."""
