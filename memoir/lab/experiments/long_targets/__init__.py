"""Sentences and paragraphs as targets: perplexity and texts on the edited subject (notebooks 05, 06).
Asks an editor only before anything is edited; what edits did, it reads in finished streams."""
