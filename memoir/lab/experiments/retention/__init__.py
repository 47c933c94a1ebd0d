"""What else stays right after edits: known answers, ROME's scores, general ability (notebook 07).
Reads finished streams at two thresholds; knows no model."""
