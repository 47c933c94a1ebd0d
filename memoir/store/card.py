"""The model card beside a saved memory: for which model it is, how it is loaded, what to know before use."""

from pathlib import Path

from huggingface_hub import ModelCardData

from memoir.store import atomic

LIBRARY = "memoir-companion"

TEXT = """---
{data}
---

# {n} {what} for a language model

A memory that was saved by the MEMOIR companion (method: {method}). It holds no model. Beside the model named below it
changes the answers to the prompts that were edited and to questions near them; everything else the model answers as
before.

| | |
|---|---|
| base model, SHA-256 of its weights | `{base_model}` |
| tokenizer, SHA-256 | `{tokenizer}` |
| settings | {settings} |
| written with | {versions} |

```python
editor = {loader}.load("this-folder", model, tokenizer)   # refused on any other model or tokenizer
editor.edits                                                     # every prompt and target
```

**Before use.** Read the edits: a memory from somebody else changes answers to questions of that person's choice and no
others, which no benchmark shows. The hashes in `memoir.json` show that this is the memory that was saved, and nothing
of what its author meant by it. **Not measured here:** how well these edits are kept, how often rephrasings find them,
and what else they let in. The licence is that of the facts and of the base model; this card grants none.
"""


def put(folder: Path, header: dict, loader: str) -> None:
    """Write the card into a folder, over an older one, but not over somebody else's README."""
    path = folder / "README.md"
    if not path.exists() or path.read_text(errors="replace").startswith(f"---\nlibrary_name: {LIBRARY}\n"):
        atomic.write(path, text(header, loader).encode())


def text(header: dict, loader: str) -> str:
    """The card of a state that is saved with `header` and loaded by the class `loader`."""
    data = ModelCardData(library_name=LIBRARY, tags=["model-editing", "lifelong-learning", header["method"]])
    shown = {name: _listed(header[name]) for name in ("settings", "versions")}
    n = len(header["edits"])
    return TEXT.format(**header | shown, data=data.to_yaml(), n=n, what="edit" if n == 1 else "edits", loader=loader)


def _listed(values: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if not isinstance(value, list | dict))
