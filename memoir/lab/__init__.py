"""The laboratory: streams of edits and their results, claims, the report, the command line.

The editor knows none of it, and works without this folder.
"""

from memoir.lab.evidence.table import over_orders, results

__all__ = ["over_orders", "results"]
