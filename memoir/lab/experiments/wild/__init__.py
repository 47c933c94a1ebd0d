"""Where people ask: in chat, behind other text, up to the end of an answer (notebook 13).
Reads finished streams; knows no model."""
