"""The widgets of notebook 00: edit, ask, see which edit answered and why, undo; in `talk.py` the same in conversations.

Their functions answer without a front end too. Knows the method, nothing of results.
"""
