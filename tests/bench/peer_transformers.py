#!/usr/bin/env python3
"""transformers on a released-format text checkpoint, a repetition per line: `decode N`, `prefill N`, `logits N FILE`.
peer_transformers.py DIR THREADS fp32|bf16 eager|compile

MiniMaxForCausalLM with the mends of tests/golden/model/reference.py: partial rotary, the released slopes.
"""
import statistics
import sys
import time

import numpy as np
import torch
import transformers
from transformers.models.minimax import modeling_minimax
from transformers.models.minimax_m2 import modeling_minimax_m2

from models import Checkpoint
from prompt import ids
from worker import serve

torch.set_grad_enabled(False)


def slope_rate(self, device=None):
    base = 1 / (2 ** (8 / self.num_attention_heads))
    exponent = torch.arange(self.num_attention_heads, device=device) + 1
    factor = 1 - self.layer_idx / max(self.num_hidden_layers - 1, 1) + 1e-5
    return (base**exponent * factor)[:, None, None]


modeling_minimax.MiniMaxLightningAttention.get_slope_rate = slope_rate
modeling_minimax.MiniMaxRotaryEmbedding = modeling_minimax_m2.MiniMaxM2RotaryEmbedding
modeling_minimax.apply_rotary_pos_emb = modeling_minimax_m2.apply_rotary_pos_emb


def native_config(c):
    return transformers.MiniMaxConfig(
        layer_types=["full_attention" if t else "linear_attention" for t in c["attn_type_list"]], block_size=256,
        rope_parameters={"rope_type": "default", "rope_theta": c["rope_theta"],
                         "partial_rotary_factor": c["rotary_dim"] / c["head_dim"]},
        full_attn_alpha_factor=c["layernorm_full_attention_alpha"], full_attn_beta_factor=c["layernorm_full_attention_beta"],
        linear_attn_alpha_factor=c["layernorm_linear_attention_alpha"],
        linear_attn_beta_factor=c["layernorm_linear_attention_beta"], mlp_alpha_factor=c["layernorm_mlp_alpha"],
        mlp_beta_factor=c["layernorm_mlp_beta"],
        **{k: c[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                             "num_key_value_heads", "head_dim", "num_local_experts", "num_experts_per_tok", "hidden_act",
                             "vocab_size", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings")})


def bits(array):
    return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)


def native_state(checkpoint, expected):
    """The released tensors under transformers' own names, which `expected` lists."""
    config, tensors = checkpoint.config, checkpoint.tensors
    state = {}
    for name in tensors:
        if ".experts." not in name:
            state[next(n for n in (name.replace("block_sparse_moe", "mlp"), name) if n in expected)] = bits(tensors[name])
    for layer in range(config["num_hidden_layers"]):
        stem = f"model.layers.{layer}.block_sparse_moe.experts."
        native = next(n for n in expected if n.startswith(f"model.layers.{layer}.") and n.endswith("experts.gate_up_proj"))
        each = [{w: tensors[f"{stem}{e}.{w}.weight"] for w in ("w1", "w2", "w3")} for e in range(config["num_local_experts"])]
        state[native] = bits(np.stack([np.concatenate([e["w1"], e["w3"]]) for e in each]))
        state[native.replace("gate_up_proj", "down_proj")] = bits(np.stack([e["w2"] for e in each]))
    return state


def load(folder, dtype):
    checkpoint = Checkpoint(folder)
    with transformers.initialization.no_init_weights():
        model = modeling_minimax.MiniMaxForCausalLM(native_config(checkpoint.config)).to(dtype)
    state = native_state(checkpoint, model.state_dict())
    missing, unexpected = model.load_state_dict(state, strict=False)
    bad = [k for k in missing if not k.endswith(("slope_rate", "_decay"))]
    assert not unexpected and not bad, (unexpected, bad)
    return model.eval()


def main():
    folder, threads, dtype, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(threads)
    model = load(folder, {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype])
    vocab = model.config.vocab_size
    step = torch.compile(model, dynamic=True) if mode == "compile" else model

    def run(tokens, cache, forward):
        return forward(input_ids=torch.tensor([tokens]), past_key_values=cache, use_cache=True).logits[0]

    def handle(words):
        count = int(words[1])
        cache = modeling_minimax.MiniMaxCache()
        if words[0] == "prefill":
            start = time.perf_counter()
            run(ids(count, vocab), cache, model)
            return {"seconds": time.perf_counter() - start}
        if words[0] == "logits":
            run(ids(count, vocab), cache, model).float().numpy().tofile(words[2])
            return {}
        run(ids(4, vocab), cache, model)
        times = []
        for token in ids(count, vocab):
            start = time.perf_counter()
            run([token], cache, step)
            times.append(time.perf_counter() - start)
        return {"seconds": statistics.median(times)}

    serve({"what": f"transformers {transformers.__version__}, torch {torch.__version__}, {dtype}, {mode}"}, handle)


if __name__ == "__main__":
    main()
