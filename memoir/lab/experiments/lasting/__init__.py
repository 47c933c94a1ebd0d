"""Does it last: long streams of ZsRE and OpenFacts by number of edits, load and age (notebooks 00, 04).
Reads finished streams; knows no model."""
