"""Laws, bounds and capacity: what mask overlap and interference must be, before anything is measured.
Knows numbers only: no model, no text, no result."""
