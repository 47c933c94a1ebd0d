"""Streams of edits, the plan that names them, result files with provenance, and the paper's printed numbers.
Imports no experiment, no figure and no claim; how a method edits, it leaves to the method."""
