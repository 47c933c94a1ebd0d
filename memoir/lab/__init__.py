"""The laboratory: streams of edits and their results, claims, the report, the command line.

The editor knows none of it, and works without this folder.
"""

from memoir.lab.evidence.table import results

__all__ = ["results"]
