"""The paper's tables and figures with our rows beside them, the article's claims, and how a verdict is decided.
Knows published numbers and experiments' frames; how a verdict or a table is shown is the report's matter."""
