"""Streams of edits, the plan that names them, and result files with provenance: all that figures are made from.
Knows how a method is asked, whichever it is; of experiments, figures and claims it knows nothing."""
