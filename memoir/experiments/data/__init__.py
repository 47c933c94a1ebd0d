"""What the facts look like, and what the untouched model knows of them (notebook 15).
Reads one result; knows no model."""
