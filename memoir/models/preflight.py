"""Before a large model is loaded: how much memory editing it takes, whether that is there, how long an edit takes.

Knows shapes. Every term is the size of a tensor that the editor, the model's layers or autograd hold; none is fitted.
`tests/models/test_paper_size.py` holds the sum to what a process really takes.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import SimpleNamespace

import psutil
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

GIB = 2**30
FULL = 4  # bytes of a float32: W_m, the loss, norms inside the model
RESERVE = GIB  # on a GPU: CUDA's context and kernels, and what the allocator cannot join
GPUS = {"A100 80 GB": (312e12, 2.0e12), "H100 SXM": (989e12, 3.35e12)}  # dense bfloat16 FLOP/s, bytes/s: data sheets
REACHED = 0.4  # assumed share of those that this kind of work reaches
PAPER_SECONDS = 10.8  # per edit, the paper's own figure

POLICY = (
    "weights {dtype}, as published unless asked otherwise, since nothing is trained in them; W_m, the edit's steps and "
    "the loss float32, since bfloat16 would round away steps smaller than 1/256 of a weight"
)


@dataclass(frozen=True)
class Need:
    """Bytes that editing takes. weights, memory (W_m), masks and packed stay; editing, asking and saving come one at a
    time.

    masks, and what saving takes, are in the main memory always; packed, the maps above the edited layer in the order
    that an edit's steps read them (`packed.py`), where a float32 model is there too; the others where the model is.
    """

    weights: int
    memory: int
    masks: int
    editing: int
    asking: int
    saving: int
    packed: int

    @property
    def device(self) -> int:
        """The most that the device of the model holds at a time, when that is not the main memory."""
        return self.weights + self.memory + max(self.editing, self.asking)

    @property
    def host(self) -> int:
        """The most that the main memory holds at a time, when the model is there too."""
        return self.weights + self.memory + self.masks + self.packed + max(self.editing, self.asking, self.saving)

    def __str__(self) -> str:
        return ", ".join(f"{name} {size / GIB:.2f}" for name, size in asdict(self).items()) + " GiB"


def skeleton(config: AutoConfig, dtype: torch.dtype) -> nn.Module:
    """The model of a configuration without its numbers: shapes on the `meta` device, no memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def need(
    model: nn.Module, family, settings, *, rows: int = 11, tokens: int = 48, targets: int = 8, edits: int = 1000,
    asked: int = 32,
) -> Need:  # fmt: skip
    """What editing `model` (a skeleton will do) takes: `rows` prompts of `tokens` with `targets` tokens to learn.

    family and settings as in `registry.py`; asked: the rows of one batch of questions.
    """
    of = _shapes(model, family, settings)
    D, d, b, n = of.D, of.d, of.bytes, rows * tokens
    memory = FULL * D * d
    below = n * (4 * D + 4 * d) * b  # one MLP at work: gate, up, their product, its input; the stream itself
    kept = n * (D + 3 * d + settings.k) * b  # a_t, W0 a_t, the layer's output; M ⊙ a on its k columns
    # M ⊙ a on all columns in float64 and in float32; outputs before and now, A; its gradient in float64
    written = n * (3 * D + 8 * d) * FULL
    columns = settings.k * (d + 3 * n * 2) * FULL  # of W_m under the mask, and M ⊙ a on them in float64, at the start
    # what autograd keeps of a layer: four MLP tensors, two norms in float32 and in b, attention's five
    tail = of.above * n * (4 * D * b + d * (4 * FULL + 9 * b)) + n * d * FULL
    logits = rows * targets * of.vocabulary * (b + 3 * FULL)
    asking = asked * tokens * (4 * D + 6 * d + 2 * of.layers * of.cache) * b
    asking += asked * targets * of.vocabulary * 3 * FULL
    return Need(
        weights=sum(p.numel() * p.element_size() for p in {id(p): p for p in model.parameters()}.values()),
        memory=memory,
        masks=edits * -(-D // 8),
        editing=max(below, kept + written + max(columns, tail + max(logits, 3 * n * D * b))),
        asking=asking,
        saving=2 * memory,
        packed=2 * FULL * of.steps if of.bytes == FULL else 0,
    )


def check(found: Need, device: str, name: str) -> None:
    """MemoryError, with the numbers, when the model does not fit; "auto" counts all GPUs together."""
    if device == "cpu":
        free, wanted, place = psutil.virtual_memory().available, found.host, "the main memory"
    elif not torch.cuda.is_available():
        raise MemoryError(f"{name} was to run on '{device}', but PyTorch finds no CUDA here. Set device to 'cpu'?")
    else:
        devices = range(torch.cuda.device_count()) if device == "auto" else [torch.device(device)]
        free = sum(torch.cuda.mem_get_info(each)[0] for each in devices)
        wanted, place = found.device + RESERVE * len(devices), f"device '{device}'"
    if wanted > free:
        raise MemoryError(
            f"{name} does not fit: editing takes {wanted / GIB:.1f} GiB ({found}), and {place} has "
            f"{free / GIB:.1f} GiB free. Use a larger GPU, several (device: auto), or a smaller "
            "model (smollm2-135m runs anywhere)."
        )


def seconds_per_edit(model: nn.Module, family, settings, *, rows: int = 11, tokens: int = 48) -> dict[str, float]:
    """An estimate for each of GPUS when every step of n_iter is run: by FLOPs or by bytes, whichever is slower."""
    of = _shapes(model, family, settings)
    n = rows * tokens
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in model.get_submodule(family.layers)]
    below, above = sum(sizes[: settings.layer + 1]), sum(sizes[settings.layer + 1 :])
    head = of.vocabulary * of.d
    # forward, and back to the activations alone: the base weights get no gradient; the edit's steps in their dual form,
    # and W_m read and written once
    flops = 2 * below * n + settings.n_iter * (4 * above * n + 4 * n * n * of.d + 4 * head * rows)
    flops += 2 * n * of.d * (settings.k + of.D)
    moved = below * of.bytes + settings.n_iter * 2 * (above + head) * of.bytes + 3 * of.D * of.d * FULL
    return {gpu: max(flops / rate, moved / band) / REACHED for gpu, (rate, band) in GPUS.items()}


def table(name: str, model: nn.Module, family, settings, edits: tuple[int, ...] = (100, 1000, 7000)) -> Iterator[str]:
    """Lines to read before a run: memory, the policy for number formats, hours by experiment size."""
    found = need(model, family, settings, edits=max(edits))
    yield f"{name}: at most {found.device / GIB:.1f} GiB on the device ({found})"
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    yield f"{'':4}{POLICY.format(dtype=dtype)}"
    ways = seconds_per_edit(model, family, settings) | {"the paper": PAPER_SECONDS}
    for way, each in ways.items():
        hours = ", ".join(f"{n} edits {n * each / 3600:.1f} h" for n in edits)
        yield f"{'':4}{way + (':' if way == 'the paper' else ' (estimate):'):24} {each:.1f} s an edit; {hours}"


def _shapes(model: nn.Module, family, settings) -> SimpleNamespace:
    layers = model.get_submodule(family.layers)
    edited, config = layers[settings.layer].get_submodule(family.edited), model.config
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    run = [*layers[settings.layer + 1 :], model.get_output_embeddings()]  # by every step of an edit
    steps = {inner for module in run for inner in module.modules() if type(inner) is nn.Linear}
    return SimpleNamespace(
        D=edited.in_features, d=edited.out_features, bytes=edited.weight.element_size(), layers=len(layers),
        above=len(layers) - settings.layer - 1, vocabulary=model.get_output_embeddings().weight.shape[0],
        cache=heads * width, steps=sum(linear.weight.numel() for linear in steps),
    )  # fmt: skip
