"""The paper's tables and figures with our rows beside them, the article's claims, and how each is decided.
Knows published numbers and results; how a verdict or a table is shown to a reader is the report's matter."""
