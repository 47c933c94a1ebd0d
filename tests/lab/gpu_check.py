"""`make gpu-check`: what only a GPU can show. The same edits on the CPU and on CUDA, in float32 and in bfloat16; what
an edit takes at the paper's size, where random weights do as well as LLaMA-3's.

Knows the small model. That no tensor is left on the wrong device is tested without a GPU, in `tests/test_devices.py`.
"""

import re
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

import memoir
from memoir.lab.evidence import files
from memoir.models import hub, identity, preflight, registry

MODEL, PAPER = "smollm2-135m", "llama-3-8b-instruct"
UPDATES = {"the paper's update": {}, "rls": {"update": "rls", "weight_decay": 0.0}}
PROMPTS = ["The capital of France is", "Who wrote the song?", "The boiling point of water is"]
TARGETS = ["Lyon", "nobody", "nine degrees"]
PREFIXES = [
    f"{word} it was so" for word in ("I think", "You say", "We know", "And", "But", "Then", "There", "Yes", "No", "As")
]
# float32 on another device sums in another order; bfloat16 keeps 8 bits of every product
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


def check(device: str = "cuda") -> str:
    """Run the checks and write their result; says where, or that there is no CUDA. AssertionError when one fails."""
    if device == "cuda" and not torch.cuda.is_available():
        return "There is no CUDA here, so nothing was checked; tests/SKIPS.md says what that leaves open."
    began, expected = files.now(), _edited("cpu", torch.float32)
    found = {}
    for dtype, tolerance in TOLERANCE.items():
        name = str(dtype).removeprefix("torch.")
        got = _edited(device, dtype)
        difference = max(abs(a - b) / a for a, b in zip(expected["first_losses"], got["first_losses"], strict=True))
        assert difference <= tolerance, f"{name}: the first loss differs from the CPU's by {difference:.1e}"
        assert got["routes"] == list(range(len(PROMPTS))), f"{name}: own prompts were routed to {got['routes']}"
        assert got["memory"] == "float32", f"{name}: W_m is {got['memory']}"
        if dtype == torch.float32:
            assert got["answers"] == expected["answers"], f"{got['answers']} instead of {expected['answers']}"
        found[name] = got | {"loss_difference": difference}
    large = _paper_size(device)
    gpu = torch.cuda.get_device_name() if device == "cuda" else device
    path = files.result_path("paper", "gpu-check", re.sub("[^a-z0-9]+", "-", gpu.lower()))
    all_of_it = found | {"cpu": expected, "gpu": gpu, "paper_size": large}
    files.write_result(path, all_of_it, {"model": MODEL, "shape": PAPER}, files.provenance(began))
    return _report(found, large, gpu, path)


def _edited(device: str, dtype: torch.dtype) -> dict:
    """Edit and ask the small model on a device: losses, answers, routes, seconds per edit, peak memory in bytes."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model, tokenizer = memoir.load_model(MODEL, dtype=dtype, device=device)
    options = memoir.settings(MODEL) | {"prefixes": ["I think so", "Because it is", "Yes, it was", "You see"]}
    editor = memoir.Memoir(model, tokenizer, **options)
    results = [editor.edit(*pair) for pair in zip(PROMPTS, TARGETS, strict=True)]
    wrong = {str(t.device) for t in (*model.parameters(), *editor.memory.buffers())} - {str(model.device)}
    assert not wrong, f"tensors were left on {wrong}"
    need = preflight.need(model, editor.family, editor.config, rows=5, tokens=16, edits=3, asked=3)
    found = {
        "first_losses": [result.losses[0] for result in results],
        "answers": editor.generate(PROMPTS, max_new_tokens=2),
        "routes": [route.edit for route in editor.route(PROMPTS)],
        "memory": str(editor.memory.weight.dtype).removeprefix("torch."),
        "seconds_per_edit": min(result.seconds for result in results[1:]),
        "seconds_per_step": min(result.seconds / result.steps for result in results[1:]),
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "preflight_bytes": need.device,
    }
    before = identity.weights_hash(model)
    editor.detach()
    assert before == editor.base_hash, "a base weight changed"
    return found


def _paper_size(device: str) -> dict:
    """By update: seconds per edit, per step and per question, peak memory in bytes, at the shape of LLaMA-3-8B.

    The weights are random: what is learnt means nothing, what it takes is the same.
    """
    source, tokenizer = registry.MODELS[PAPER], memoir.load_model(MODEL)[1]
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(hub.skeleton(source).config, dtype=torch.bfloat16).eval()
    how = memoir.settings(PAPER) | {"background": PROMPTS, "prefixes": PREFIXES}
    family, settings = registry.family_of(model), source.settings
    tokens = max(
        len(tokenizer(f"{a} {b} {c}").input_ids) for a in PREFIXES for b, c in zip(PROMPTS, TARGETS, strict=True)
    )
    need = preflight.need(model, family, settings, rows=11, tokens=tokens, edits=3, asked=1)
    found = {
        "tokens": tokens,
        "preflight_bytes": need.device,
        "preflight_seconds": preflight.seconds_per_edit(model, family, settings, rows=11, tokens=tokens),
    }
    return found | {name: _timed(memoir.Memoir(model, tokenizer, **how | update)) for name, update in UPDATES.items()}


def _timed(editor: memoir.Memoir) -> dict:
    """Three edits, the first of which warms up, then one question at a time."""
    torch.cuda.reset_peak_memory_stats()
    results = [editor.edit(*pair) for pair in zip(PROMPTS, TARGETS, strict=True)][1:]
    peak, began = torch.cuda.max_memory_allocated(), time.monotonic()
    routes = [editor.route([prompt])[0].edit for prompt in PROMPTS * 5]
    each = (time.monotonic() - began) / len(routes)
    assert routes == [0, 1, 2] * 5, f"at the paper's size own prompts were routed to {routes}"
    editor.detach()
    return {
        "seconds_per_edit": min(result.seconds for result in results),
        "steps": [result.steps for result in results],
        "seconds_per_step": min(result.seconds / result.steps for result in results),
        "seconds_per_question": each,
        "peak_bytes": peak,
    }


def _report(found: dict, large: dict, gpu: str, path: Path) -> str:
    lines = [f"{gpu}: equal to the CPU within tolerance."]
    for name, got in found.items():
        peak = "unknown" if got["peak_bytes"] is None else f"{got['peak_bytes'] / 2**20:.0f} MiB"
        lines.append(
            f"{name}: {got['seconds_per_edit']:.2f} s an edit, peak {peak} (preflight "
            f"{got['preflight_bytes'] / 2**20:.0f} MiB), first losses within {got['loss_difference']:.0e} of the CPU's"
        )
    for name in UPDATES:
        got = large[name]
        lines.append(
            f"At the shape of {PAPER}, {name}: {got['seconds_per_edit']:.2f} s an edit of {got['steps']} steps, "
            f"{1000 * got['seconds_per_question']:.0f} ms a question, peak {got['peak_bytes'] / 2**30:.1f} GiB; "
            f"the preflight says {large['preflight_bytes'] / 2**30:.1f} GiB and {large['preflight_seconds']}"
        )
    return "\n".join([*lines, f"Written to {path.relative_to(files.ROOT)}"])


if __name__ == "__main__":
    print(check())
