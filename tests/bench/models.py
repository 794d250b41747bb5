"""The model that the rows of decode and prefill run, as each peer wants it: one set of random weights."""
import json
import pathlib

import numpy as np

EXPERT_NAMES = {"w1": "ffn_gate_exps", "w2": "ffn_down_exps", "w3": "ffn_up_exps"}
GGUF_NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
              "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "self_attn.qkv_proj": "attn_qkv", "self_attn.output_gate": "attn_gate", "self_attn.norm": "attn_norm_2",
              "self_attn.out_proj": "attn_output", "block_sparse_moe.gate": "ffn_gate_inp"}
TINY = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
        "rotary_dim": 32, "vocab_size": 1024}


class Checkpoint:
    """A released-format checkpoint of one bfloat16 file."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.config = json.loads((self.folder / "config.json").read_text())
        path = self.folder / "model.safetensors"
        with open(path, "rb") as f:
            length = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(length))
        data = np.memmap(path, np.uint8, "r", offset=8 + length)
        self.tensors = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                self.tensors[name] = data[begin:end].view(np.uint16).reshape(entry["shape"])


def to_float(bits):
    return (np.ascontiguousarray(bits).astype(np.uint32) << 16).view(np.float32)


def write_tiny(like, folder):
    """A small model of the same topology as the checkpoint `like`, small enough for the second cache."""
    folder = pathlib.Path(folder)
    if (folder / "complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(like.config, **TINY)
    scale = {like.config[k]: v for k, v in TINY.items() if k in ("hidden_size", "intermediate_size", "vocab_size")}
    heads, kv = (like.config[k] * like.config["head_dim"] for k in ("num_attention_heads", "num_key_value_heads"))
    inner, inner_kv = (TINY[k] * TINY["head_dim"] for k in ("num_attention_heads", "num_key_value_heads"))
    rng = np.random.default_rng(1)
    header, blobs, at = {}, [], 0
    for name, tensor in like.tensors.items():
        shape = [scale.get(d, d) for d in tensor.shape]
        if "self_attn" in name:  # the heads' width may equal the hidden size in `like`
            kind = name.split("self_attn.")[1].split(".")[0]
            rows = {"q_proj": inner, "k_proj": inner_kv, "v_proj": inner_kv, "qkv_proj": 3 * inner, "output_gate": inner,
                    "norm": inner}.get(kind, TINY["hidden_size"])
            shape = [rows] if kind == "norm" else [rows, inner if kind in ("o_proj", "out_proj") else TINY["hidden_size"]]
        width = 0.1 if len(shape) == 1 else 1.7 / np.sqrt(shape[-1])
        value = ((1.0 if len(shape) == 1 else 0.0) + width * rng.uniform(-1, 1, shape)).astype(np.float32)
        blob = (value.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    assert heads and kv
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))
    (folder / "complete").write_text("yes\n")


def gguf_tensors(checkpoint):
    """(GGUF name, bfloat16 bits); a layer's experts are stacked."""
    config, tensors = checkpoint.config, checkpoint.tensors
    yield "token_embd.weight", tensors["model.embed_tokens.weight"]
    yield "output_norm.weight", tensors["model.norm.weight"]
    yield "output.weight", tensors["lm_head.weight"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name in tensors:
            if name.startswith(prefix) and ".experts." not in name:
                yield f"blk.{layer}.{GGUF_NAMES[name[len(prefix):-len('.weight')]]}.weight", tensors[name]
        for ours, theirs in EXPERT_NAMES.items():
            yield f"blk.{layer}.{theirs}.weight", np.stack(
                [tensors[f"{prefix}block_sparse_moe.experts.{e}.{ours}.weight"] for e in range(config["num_local_experts"])])


def write_gguf(checkpoint, kind, path):
    """kind: BF16, F16 or Q8_0; norms and routers stay float32, as llama.cpp's own converter leaves them."""
    import gguf
    path = pathlib.Path(path)
    if path.exists():
        return
    c = checkpoint.config
    quant = gguf.GGMLQuantizationType[kind]
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "minimax-01")
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_key_length(c["head_dim"])
    writer.add_value_length(c["head_dim"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_expert_count(c["num_local_experts"])
    writer.add_expert_used_count(c["num_experts_per_tok"])
    writer.add_rope_dimension_count(c["rotary_dim"])
    writer.add_rope_freq_base(float(c["rope_theta"]))
    writer.add_residual_scale(float(c["layernorm_mlp_alpha"]))
    writer.add_vocab_size(c["vocab_size"])
    # Ids are what is compared; the words mean nothing.
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{i}" for i in range(c["vocab_size"])])
    writer.add_token_types([gguf.TokenType.NORMAL] * c["vocab_size"])
    writer.add_token_merges(["t 0"])
    for name, bits in gguf_tensors(checkpoint):
        if bits.ndim == 1 or "ffn_gate_inp" in name:
            writer.add_tensor(name, to_float(bits))
        elif kind == "BF16":
            writer.add_tensor(name, np.ascontiguousarray(bits).view(np.uint8), raw_dtype=quant)
        elif kind == "F16":
            writer.add_tensor(name, to_float(bits).astype(np.float16))
        else:
            writer.add_tensor(name, gguf.quants.quantize(to_float(bits), quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(path)
