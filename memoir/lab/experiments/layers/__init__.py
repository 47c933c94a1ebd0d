"""Which layer to edit: sweeps over layers and over layer and k (notebook 03).
Reads finished streams; knows no model."""
