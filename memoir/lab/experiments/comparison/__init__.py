"""MEMOIR beside the baselines: the search for settings, the streams, the cost (notebook 09).
Knows methods by their interface; `costs.py` alone looks at MEMOIR's memory, to weigh it."""
