#include "tests/bench/bench_checkpoint.h"

#include "tests/bench/random_checkpoint.h"

namespace fulger {
namespace {

// About 1.5 billion parameters: seven lightning layers and one softmax layer.
constexpr char kConfig[] = R"({"architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01",
 "hidden_size": 2048, "intermediate_size": 3072, "num_hidden_layers": 8, "num_attention_heads": 16,
 "num_key_value_heads": 4, "head_dim": 128, "num_local_experts": 8, "num_experts_per_tok": 2, "hidden_act": "silu",
 "vocab_size": 32000, "rms_norm_eps": 1e-05, "max_position_embeddings": 8192, "tie_word_embeddings": false,
 "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1], "rope_theta": 10000000, "rotary_dim": 64, "postnorm": true,
 "shared_intermediate_size": [0], "shared_moe_mode": "sigmoid",
 "layernorm_full_attention_alpha": 2.0, "layernorm_full_attention_beta": 1.0,
 "layernorm_linear_attention_alpha": 2.0, "layernorm_linear_attention_beta": 1.0,
 "layernorm_mlp_alpha": 2.0, "layernorm_mlp_beta": 1.0})";

}  // namespace

absl::Status WriteBenchCheckpoint(const std::string& dir) { return WriteRandomCheckpoint(dir, kConfig); }

}  // namespace fulger
