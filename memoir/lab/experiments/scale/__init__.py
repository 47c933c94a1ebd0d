"""Scale: what an edit and a query take on larger models, and how routing grows with stored edits (notebook 10).
Measures masks without a model; what a GPU takes it reads from the results of `make gpu-check`."""
