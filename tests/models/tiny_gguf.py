"""A tiny model of the family qwen2 as a GGUF file, and wheels that carry it in parts, as a package index would."""

import base64
import hashlib
import zipfile
from pathlib import Path

import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*bytes_to_unicode().values(), *SPECIAL, "he", "Ġr"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
SIZES = dict(hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
SHAPE = {"model_type": "qwen2", "vocab_size": len(TOKENS), "tie_word_embeddings": False} | SIZES


def model() -> PreTrainedModel:
    torch.manual_seed(0)
    shape = dict(SHAPE)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(shape.pop("model_type"), **shape)).eval()


def write(made: PreTrainedModel, path: Path) -> None:
    """The model's float32 weights and a tokenizer of bytes, in the format's own names."""
    config, out = made.config, GGUFWriter(path, "qwen2")
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(512)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_rope_freq_base(10000.0)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(TOKENS)
    out.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in TOKENS])
    out.add_token_merges(["h e", "Ġ r"])
    out.add_eos_token_id(TOKENS.index("<|im_end|>"))
    out.add_pad_token_id(TOKENS.index("<|endoftext|>"))
    out.add_bos_token_id(TOKENS.index("<|endoftext|>"))
    out.add_chat_template(TEMPLATE)
    for name, weight in made.state_dict().items():
        layer, kind = name.removeprefix("model.layers.").partition(".")[::2] if ".layers." in name else ("", name)
        stem, _, suffix = kind.rpartition(".")
        place = f"blk.{layer}." if layer else ""
        out.add_tensor(f"{place}{NAMES[stem]}.{suffix}", weight.numpy(), raw_dtype=GGMLQuantizationType.F32)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def wheel(folder: Path, name: str, data: bytes, code: str = "") -> Path:
    """A wheel name-1.0 that carries `data` as data/part.bin, and a module with `code`."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}/__init__.py": code.encode(),
        f"{module}/data/part.bin": data,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: nowhere\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{file},sha256={_digest(content)},{len(content)}" for file, content in files.items()]
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            archive.writestr(file, content)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]))
    return path


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
