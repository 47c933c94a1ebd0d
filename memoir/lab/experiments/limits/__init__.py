"""Where it ends: opposites, neighbours, what follows, other languages, changed minds, lengths (notebook 11).
Edits for what streams do not cover, reads finished streams for the rest."""
