"""MEMOIR beside the baselines: the search for settings, the streams, the cost (notebook 09).
Knows methods by their interface, not how they edit."""
