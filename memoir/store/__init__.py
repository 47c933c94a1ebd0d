"""Files that are there whole or not at all, saved memories among them, and the card beside one. Knows no models."""
