#!/usr/bin/env python3
"""Writes data/configs/<model>.json (released schema) and <model>_native.json (transformers' schema) of every model, and
two lists of patches (RFC 7396): bad.json, each of which a parser must refuse, naming the key, and same.json, each of
which must change nothing that the model depends on. Plain python3.
"""
import os

import model_configs
import safetensors_writer

# name, base file, patch, what the refusal must name
BAD = (
    ("postnorm_false", "g2.json", {"text_config": {"postnorm": False}}, "postnorm"),
    ("shared_expert_list", "g2.json", {"text_config": {"shared_intermediate_size": [8]}}, "shared_intermediate_size"),
    ("shared_expert_scalar", "g2.json", {"text_config": {"shared_intermediate_size": 8}}, "shared_intermediate_size"),
    ("shared_expert_two", "g2.json", {"text_config": {"shared_intermediate_size": [0, 0]}},
     "shared_intermediate_size"),
    ("attention_kind_2", "g2.json", {"text_config": {"attn_type_list": [0] * 15 + [2]}}, "attn_type_list"),
    ("attention_kinds_short", "g2.json", {"text_config": {"attn_type_list": [0] * 15}}, "attn_type_list"),
    ("rotary_odd", "g2.json", {"text_config": {"rotary_dim": 3}}, "rotary_dim"),
    ("rotary_zero", "g2.json", {"text_config": {"rotary_dim": 0}}, "rotary_dim"),
    ("rotary_beyond_head", "g2.json", {"text_config": {"rotary_dim": 18}}, "rotary_dim"),
    ("factors_disagree", "g2.json", {"text_config": {"mlp_alpha_factor": 1.5}}, "mlp_alpha_factor"),
    ("heads_not_power_of_two", "g2.json", {"text_config": {"num_attention_heads": 6}}, "num_attention_heads"),
    ("heads_not_multiple_of_kv", "g2.json", {"text_config": {"num_key_value_heads": 3}}, "num_key_value_heads"),
    ("top_beyond_experts", "g2.json", {"text_config": {"num_experts_per_tok": 9}}, "num_experts_per_tok"),
    ("activation", "g2.json", {"text_config": {"hidden_act": "gelu"}}, "hidden_act"),
    ("text_model_type", "g2.json", {"text_config": {"model_type": "llama"}}, "model_type"),
    ("no_hidden", "g2.json", {"text_config": {"hidden_size": None}}, "hidden_size"),
    ("hidden_text", "g2.json", {"text_config": {"hidden_size": "96"}}, "hidden_size"),
    ("tied_embeddings", "g2.json", {"text_config": {"tie_word_embeddings": True}}, "tie_word_embeddings"),
    ("sliding_window", "g2.json", {"text_config": {"sliding_window": 128}}, "sliding_window"),
    ("strategy_full", "g2.json", {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy"),
    ("feature_layer_list", "g2.json", {"vision_feature_layer": [-2, -1]}, "vision_feature_layer"),
    ("feature_layer_beyond", "g2.json", {"vision_feature_layer": -9}, "vision_feature_layer"),
    ("projector_activation", "g2.json", {"projector_hidden_act": "relu"}, "projector_hidden_act"),
    ("siglip_tower", "g2.json", {"vision_config": {"model_type": "siglip_vision_model"}}, "model_type"),
    ("quick_gelu", "g2.json", {"vision_config": {"hidden_act": "quick_gelu"}}, "hidden_act"),
    ("vision_heads", "g2.json", {"vision_config": {"num_attention_heads": 5}}, "num_attention_heads"),
    ("tile_not_multiple_of_patch", "g2.json", {"vision_config": {"image_size": 25}}, "image_size"),
    ("pinpoint_not_multiple_of_tile", "g2.json", {"image_grid_pinpoints": [[24, 30]]}, "image_grid_pinpoints"),
    ("pinpoint_triple", "g2.json", {"image_grid_pinpoints": [[24, 24, 24]]}, "image_grid_pinpoints"),
    ("image_token_beyond_vocab", "g2.json", {"image_token_index": 512}, "image_token_index"),
    ("native_kind_unknown", "g2_native.json", {"text_config": {"layer_types": ["mamba"] * 16}}, "layer_types"),
    ("native_kinds_short", "g2_native.json", {"text_config": {"layer_types": ["linear_attention"]}}, "layer_types"),
    ("native_rope_scaled", "g2_native.json", {"text_config": {"rope_parameters": {"rope_type": "yarn"}}}, "rope_type"),
    ("native_rotary_odd", "g2_native.json", {"text_config": {"rope_parameters": {"partial_rotary_factor": 0.1875}}},
     "partial_rotary_factor"),
    ("native_no_projector_bias", "g2_native.json", {"multimodal_projector_bias": False}, "multimodal_projector_bias"),
)

# name, base file, patch
SAME = (
    ("shared_expert_scalar_zero", "g2.json", {"text_config": {"shared_intermediate_size": 0}}),
    ("shared_expert_absent", "g2.json", {"text_config": {"shared_intermediate_size": None, "shared_moe_mode": None}}),
    ("other_model_type", "g2.json", {"text_config": {"model_type": "MiniMaxText01"}}),
    ("image_token_alias", "g2.json", {"image_token_index": None, "image_token_id": 505}),
    ("experts_alias", "g2.json", {"text_config": {"num_local_experts": None, "num_experts": 8}}),
    ("both_factors_equal", "g1.json", {"text_config": {"mlp_alpha_factor": 2.5, "full_attn_beta_factor": 1.0}}),
    ("strategy_absent", "g2.json", {"vision_feature_select_strategy": None}),
    ("remote_code", "g2.json", {"auto_map": {"AutoConfig": "configuration_minimax_vl_01.MiniMaxVL01Config"},
                                "transformers_version": "4.42.3"}),
    ("native_block_size", "g2_native.json", {"text_config": {"block_size": 256, "router_jitter_noise": 0.1}}),
)


def main():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "configs")
    os.makedirs(folder, exist_ok=True)
    for m in model_configs.MODELS.values():
        safetensors_writer.write_json(folder, m.id + ".json", model_configs.legacy_config(m))
        safetensors_writer.write_json(folder, m.id + "_native.json", model_configs.native_config(m))
    keys = ("name", "base", "patch", "key")
    safetensors_writer.write_json(folder, "bad.json", [dict(zip(keys, row)) for row in BAD])
    safetensors_writer.write_json(folder, "same.json", [dict(zip(keys, row)) for row in SAME])


if __name__ == "__main__":
    main()
