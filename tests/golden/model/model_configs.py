"""The models of the goldens, the demo and the release: their sizes, their config.json in both schemas, their tensors.

Standard library only. Names and shapes are those of the released checkpoint; `native_tensors` gives those of the
transformers-native format, where experts are fused.
"""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Vision:
    hidden: int
    inter: int
    layers: int
    heads: int
    tile: int
    patch: int
    pinpoints: tuple  # of (height, width) in pixels

    @property
    def side(self):
        return self.tile // self.patch


@dataclasses.dataclass(frozen=True)
class Model:
    id: str
    vocab: int
    hidden: int
    inter: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    rotary: int
    theta: float
    softmax_every: int  # layer l is softmax iff (l + 1) % softmax_every == 0
    alphas: tuple = (1.0, 1.0, 1.0)  # softmax attention, lightning attention, MoE
    betas: tuple = (1.0, 1.0, 1.0)
    block: int = 256
    max_positions: int = 8192
    image_token: int = None
    bos_token: int = None
    eos_token: int = None
    vision: Vision = None
    weight_seed: int = 0
    tie_gate_layers: tuple = ()  # layers whose router is weight_formula.tie_gate

    def is_softmax(self, layer):
        return (layer + 1) % self.softmax_every == 0


def pinpoints(unit, most, area):
    """(height, width) pairs a*unit x b*unit with a, b in 1..most and a*b <= area, row-major."""
    return tuple((a * unit, b * unit) for a in range(1, most + 1) for b in range(1, most + 1) if a * b <= area)


def deepnorm(layers):
    return (2.0 * layers) ** 0.25


_G0 = Model(id="g0", vocab=97, hidden=32, inter=16, layers=2, heads=4, kv_heads=2, head_dim=8, experts=2, rotary=4,
            theta=1e4, softmax_every=2, block=4, max_positions=512, image_token=3,
            vision=Vision(hidden=16, inter=32, layers=2, heads=4, tile=8, patch=4, pinpoints=((8, 8),)))

MODELS = {m.id: m for m in (
    _G0,
    dataclasses.replace(_G0, id="g1", theta=1e7, alphas=(3.5, 3.25, 2.5), betas=(1.0, 0.75, 0.5)),
    Model(id="g2", vocab=512, hidden=96, inter=80, layers=16, heads=8, kv_heads=2, head_dim=16, experts=8, rotary=8,
          theta=1e7, softmax_every=8, alphas=(deepnorm(16),) * 3, image_token=505,
          vision=Vision(hidden=64, inter=128, layers=3, heads=4, tile=24, patch=4, pinpoints=pinpoints(24, 3, 6))),
    Model(id="g3", vocab=256, hidden=256, inter=192, layers=8, heads=8, kv_heads=2, head_dim=128, experts=4, rotary=64,
          theta=1e7, softmax_every=8, alphas=(deepnorm(8),) * 3),
    Model(id="g4", vocab=128, hidden=64, inter=32, layers=2, heads=4, kv_heads=2, head_dim=16, experts=32, rotary=8,
          theta=1e7, softmax_every=2, alphas=(deepnorm(2),) * 3, tie_gate_layers=(1,)),
    Model(id="g5", vocab=1024, hidden=128, inter=128, layers=8, heads=64, kv_heads=8, head_dim=16, experts=32,
          rotary=8, theta=1e7, softmax_every=8, alphas=(deepnorm(8),) * 3, image_token=1001,
          vision=Vision(hidden=128, inter=256, layers=2, heads=16, tile=24, patch=4, pinpoints=pinpoints(24, 3, 6))),
    Model(id="g6", vocab=256, hidden=64, inter=64, layers=2, heads=4, kv_heads=2, head_dim=16, experts=4, rotary=8,
          theta=1e7, softmax_every=2, alphas=(deepnorm(2),) * 3, image_token=250,
          vision=Vision(hidden=128, inter=256, layers=2, heads=2, tile=336, patch=14,
                        pinpoints=pinpoints(336, 6, 18))),
    # The checkpoint of `make demo`: the same network, small enough to be written in seconds without numpy.
    Model(id="demo", vocab=288, hidden=128, inter=128, layers=8, heads=8, kv_heads=4, head_dim=16, experts=8, rotary=8,
          theta=1e7, softmax_every=8, alphas=(deepnorm(8),) * 3, image_token=286,
          vision=Vision(hidden=64, inter=128, layers=2, heads=4, tile=56, patch=14, pinpoints=pinpoints(56, 6, 18))),
    Model(id="released", vocab=200064, hidden=6144, inter=9216, layers=80, heads=64, kv_heads=8, head_dim=128,
          experts=32, rotary=64, theta=1e7, softmax_every=8, alphas=(deepnorm(80),) * 3, image_token=200025,
          vision=Vision(hidden=1024, inter=4096, layers=24, heads=16, tile=336, patch=14,
                        pinpoints=pinpoints(336, 6, 18))),
)}


# --- config.json -----------------------------------------------------------------------------------------------------

def _number(value):
    return int(value) if float(value).is_integer() else value


def _vision_config(m):
    v = m.vision
    return {"model_type": "clip_vision_model", "hidden_size": v.hidden, "intermediate_size": v.inter,
            "num_hidden_layers": v.layers, "num_attention_heads": v.heads, "image_size": v.tile,
            "patch_size": v.patch, "num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
            "attention_dropout": 0.0, "projection_dim": m.hidden, "vocab_size": 32000}


def _text_common(m):
    return {"hidden_size": m.hidden, "intermediate_size": m.inter, "num_hidden_layers": m.layers,
            "num_attention_heads": m.heads, "num_key_value_heads": m.kv_heads, "head_dim": m.head_dim,
            "num_local_experts": m.experts, "num_experts_per_tok": 2, "hidden_act": "silu", "vocab_size": m.vocab,
            "rms_norm_eps": 1e-5, "max_position_embeddings": m.max_positions, "bos_token_id": None,
            "eos_token_id": None, "tie_word_embeddings": False, "sliding_window": None, "attention_dropout": 0.0,
            "router_jitter_noise": 0.0, "router_aux_loss_coef": 0.001, "output_router_logits": False,
            "initializer_range": 0.02, "use_cache": True}


def _top_level(m, text):
    if m.vision is None:
        return text
    return {"architectures": ["MiniMaxVL01ForConditionalGeneration"], "model_type": "minimax_vl_01",
            "ignore_index": -100, "image_token_index": m.image_token, "projector_hidden_act": "gelu",
            "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
            "image_grid_pinpoints": [list(p) for p in m.vision.pinpoints], "image_seq_length": m.vision.side**2,
            "tie_word_embeddings": False, "torch_dtype": "bfloat16", "text_config": text,
            "vision_config": _vision_config(m)}


def legacy_config(m):
    """The released schema (remote code)."""
    text = {"architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01", **_text_common(m),
            "attn_type_list": [int(m.is_softmax(l)) for l in range(m.layers)], "block": m.block,
            "rope_theta": _number(m.theta), "rotary_dim": m.rotary, "postnorm": True,
            "shared_intermediate_size": [0], "shared_moe_mode": "sigmoid",
            "layernorm_full_attention_alpha": m.alphas[0], "layernorm_full_attention_beta": m.betas[0],
            "layernorm_linear_attention_alpha": m.alphas[1], "layernorm_linear_attention_beta": m.betas[1],
            "layernorm_mlp_alpha": m.alphas[2], "layernorm_mlp_beta": m.betas[2]}
    return _top_level(m, text)


def native_config(m):
    """The schema of transformers' own minimax_vl_01."""
    text = {"model_type": "minimax_vl_01_text", **_text_common(m),
            "layer_types": ["full_attention" if m.is_softmax(l) else "linear_attention" for l in range(m.layers)],
            "block_size": m.block,
            "rope_parameters": {"rope_type": "default", "rope_theta": m.theta,
                                "partial_rotary_factor": m.rotary / m.head_dim},
            "full_attn_alpha_factor": m.alphas[0], "full_attn_beta_factor": m.betas[0],
            "linear_attn_alpha_factor": m.alphas[1], "linear_attn_beta_factor": m.betas[1],
            "mlp_alpha_factor": m.alphas[2], "mlp_beta_factor": m.betas[2]}
    top = _top_level(m, text)
    if m.vision is not None:
        top["multimodal_projector_bias"] = True
    return top


def preprocessor_config(m):
    v = m.vision
    return {"image_processor_type": "ImageProcessor", "processor_class": "MiniMaxVL01Processor",
            "process_image_mode": "anyres", "size": [v.tile, v.tile], "patch_size": v.patch,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
            "image_grid_pinpoints": [list(p) for p in v.pinpoints]}


# --- tensors ---------------------------------------------------------------------------------------------------------

def _text_prefix(m):
    return "" if m.vision is None else "language_model."


def layer_tensors(m, layer):
    p = f"{_text_prefix(m)}model.layers.{layer}."
    inner, kv = m.heads * m.head_dim, m.kv_heads * m.head_dim
    out = [(p + "input_layernorm.weight", (m.hidden,)), (p + "post_attention_layernorm.weight", (m.hidden,))]
    if m.is_softmax(layer):
        out += [(p + "self_attn.q_proj.weight", (inner, m.hidden)), (p + "self_attn.k_proj.weight", (kv, m.hidden)),
                (p + "self_attn.v_proj.weight", (kv, m.hidden)), (p + "self_attn.o_proj.weight", (m.hidden, inner))]
    else:
        out += [(p + "self_attn.qkv_proj.weight", (3 * inner, m.hidden)),
                (p + "self_attn.output_gate.weight", (inner, m.hidden)), (p + "self_attn.norm.weight", (inner,)),
                (p + "self_attn.out_proj.weight", (m.hidden, inner))]
    out.append((p + "block_sparse_moe.gate.weight", (m.experts, m.hidden)))
    for e in range(m.experts):
        q = f"{p}block_sparse_moe.experts.{e}."
        out += [(q + "w1.weight", (m.inter, m.hidden)), (q + "w2.weight", (m.hidden, m.inter)),
                (q + "w3.weight", (m.inter, m.hidden))]
    return out


def vision_tensors(m):
    v, p = m.vision, "vision_tower.vision_model."
    h = v.hidden
    out = [(p + "embeddings.class_embedding", (h,)),
           (p + "embeddings.patch_embedding.weight", (h, 3, v.patch, v.patch)),
           (p + "embeddings.position_embedding.weight", (v.side**2 + 1, h)),
           (p + "pre_layrnorm.weight", (h,)), (p + "pre_layrnorm.bias", (h,))]
    for l in range(v.layers):
        q = f"{p}encoder.layers.{l}."
        for name, rows, cols in (("self_attn.q_proj", h, h), ("self_attn.k_proj", h, h), ("self_attn.v_proj", h, h),
                                 ("self_attn.out_proj", h, h), ("mlp.fc1", v.inter, h), ("mlp.fc2", h, v.inter)):
            out += [(f"{q}{name}.weight", (rows, cols)), (f"{q}{name}.bias", (rows,))]
        for name in ("layer_norm1", "layer_norm2"):
            out += [(f"{q}{name}.weight", (h,)), (f"{q}{name}.bias", (h,))]
    out += [("multi_modal_projector.linear_1.weight", (m.hidden, h)),
            ("multi_modal_projector.linear_1.bias", (m.hidden,)),
            ("multi_modal_projector.linear_2.weight", (m.hidden, m.hidden)),
            ("multi_modal_projector.linear_2.bias", (m.hidden,)), ("image_newline", (m.hidden,))]
    return out


def tensors(m):
    """[(released name, shape)]. A text-only model has the names of MiniMax-Text-01: no `language_model.` prefix."""
    p = _text_prefix(m)
    out = [(p + "model.embed_tokens.weight", (m.vocab, m.hidden))]
    for layer in range(m.layers):
        out += layer_tensors(m, layer)
    out += [(p + "model.norm.weight", (m.hidden,)), (p + "lm_head.weight", (m.vocab, m.hidden))]
    return out + (vision_tensors(m) if m.vision else [])


NATIVE_PREFIXES = (
    ("language_model.lm_head", "lm_head"),
    ("language_model.model.", "model.language_model."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("image_newline", "model.image_newline"),
)


def native_name(name):
    """Of a tensor that is not an expert's."""
    for old, new in NATIVE_PREFIXES:
        if name.startswith(old):
            name = new + name[len(old):]
            break
    return name.replace("block_sparse_moe", "mlp")


def native_tensors(m):
    """[(native name, shape, [released names in storage order])]; an expert tensor is the concatenation of its parts."""
    out = []
    for name, shape in tensors(m):
        if ".experts." not in name:
            out.append((native_name(name), shape, [name]))
        elif name.endswith(".experts.0.w1.weight"):
            stem = name[: -len("0.w1.weight")]
            native = native_name(stem)
            pairs = [f"{stem}{e}.{w}.weight" for e in range(m.experts) for w in ("w1", "w3")]
            downs = [f"{stem}{e}.w2.weight" for e in range(m.experts)]
            out.append((native + "gate_up_proj", (m.experts, 2 * m.inter, m.hidden), pairs))
            out.append((native + "down_proj", (m.experts, m.hidden, m.inter), downs))
    return out
