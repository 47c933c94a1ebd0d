"""A LLaMA-shaped model of the paper's width, few layers, random weights, bfloat16, in a process of its own.

Prints JSON: the peak of memory above what Python and torch themselves take, and what the preflight said of it.
"""

import json
import re
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer

import memoir
from memoir.models import preflight, registry

D, WIDTH, K, LAYERS = 14336, 4096, 4096, 2
ROWS = dict(rows=11, tokens=14, targets=2, asked=2)
PREFIXES = [f"{word} so" for word in ("I", "You", "We", "It", "He", "She", "They", "Who", "And", "But")]


def taken() -> int:
    """Peak of this process' memory so far, in bytes; getrusage's would start at that of the process it came from."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def build() -> torch.nn.Module:
    config = AutoConfig.for_model(
        "llama", hidden_size=WIDTH, intermediate_size=D, num_hidden_layers=LAYERS, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=49152, tie_word_embeddings=True, pad_token_id=2, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    model = preflight.skeleton(config, torch.bfloat16).to_empty(device="cpu").eval()
    torch.manual_seed(0)
    some = (torch.randn(2**20) / 64).to(torch.bfloat16)  # random numbers, over and over: drawing 640 million takes long
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
                continue
            for part in weight.view(-1).split(len(some)):
                part.copy_(some[: len(part)])
    rotary = model.model.rotary_emb  # its buffers are no weights, and to_empty left them undefined
    model.model.rotary_emb = type(rotary)(config=config)
    return model


def main(tokenizer_folder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.randn(64, 64).bfloat16() @ torch.randn(64, 64).bfloat16()  # libraries that the first product loads
    before = taken()
    model = build()
    settings = registry.MemoirConfig(layer=0, k=K, threshold=0.4, n_iter=1)
    said = preflight.need(model, registry.FAMILIES["llama"], settings, edits=2, **ROWS)
    how = dict(layer=0, k=K, threshold=0.4, n_iter=1, background=["Name a river"], prefixes=PREFIXES)
    editor = memoir.Memoir(model, tokenizer, **how)
    editor.edit("Who wrote it?", "Ann")
    editor.edit("Where is the tower?", "Rome")
    routes = editor.route(["Who wrote it?", "Where is the tower?"])
    with tempfile.TemporaryDirectory() as folder:
        editor.save(folder)
        weight, masks = editor.memory.weight[:, ::97].clone(), editor.memory.masks.copy()
        editor.detach()
        del editor
        again = memoir.Memoir.load(folder, model, tokenizer)
    found = {
        "routes": [(route.edit, route.overlap) for route in routes],
        "same": torch.equal(weight, again.memory.weight[:, ::97]) and bool((masks == again.memory.masks).all()),
        "dtypes": [str(weight.dtype) for weight in (next(model.parameters()), again.memory.weight)],
        "written": bool(weight.any()),
        "peak": taken() - before,
        "said": said.host,
        "parts": str(said),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
