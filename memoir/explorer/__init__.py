"""The widget of notebook 00: type a prompt and a target, edit, ask, see which edit answered and why, undo.

Its functions answer without a front end too. Knows the method, nothing of results.
"""
