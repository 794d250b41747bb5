// fulger-vision-bench: eight pictures through the vision tower together, against one by one, in one run and
// in turns, by the clock and by the processor time of all threads, which a busy machine disturbs less. A
// picture has at least two tiles (the thumbnail and itself).
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "tests/bench/quantile.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/support/thread_replica.h"

namespace fulger {
namespace {

constexpr int kPictures = 8;

// The width of the released tower; how many patches a tile has and how many layers there are varies.
std::string ConfigJson(int side, int layers) {
  return fmt::format(
      R"({{"architectures": ["MiniMaxVL01ForConditionalGeneration"], "model_type": "minimax_vl_01",
 "image_token_index": 1001, "projector_hidden_act": "gelu", "vision_feature_layer": -1,
 "vision_feature_select_strategy": "default", "image_seq_length": {2}, "tie_word_embeddings": false,
 "image_grid_pinpoints": [[{0}, {0}], [{0}, {3}], [{3}, {0}], [{3}, {3}]],
 "text_config": {{"architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01",
 "hidden_size": 2048, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
 "num_key_value_heads": 2, "head_dim": 64, "num_local_experts": 2, "num_experts_per_tok": 1,
 "hidden_act": "silu", "vocab_size": 1024, "rms_norm_eps": 1e-05, "max_position_embeddings": 8192,
 "tie_word_embeddings": false, "attn_type_list": [0, 1], "rope_theta": 10000000, "rotary_dim": 32,
 "postnorm": true, "shared_intermediate_size": [0], "shared_moe_mode": "sigmoid",
 "layernorm_full_attention_alpha": 2.0, "layernorm_full_attention_beta": 1.0,
 "layernorm_linear_attention_alpha": 2.0, "layernorm_linear_attention_beta": 1.0,
 "layernorm_mlp_alpha": 2.0, "layernorm_mlp_beta": 1.0}},
 "vision_config": {{"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
 "num_hidden_layers": {1}, "num_attention_heads": 16, "image_size": {0}, "patch_size": 14, "num_channels": 3,
 "hidden_act": "gelu", "layer_norm_eps": 1e-05, "projection_dim": 2048, "vocab_size": 32000}}}})",
      side, layers, side / 14 * (side / 14), 2 * side);
}

struct Case {
  const char* what;
  int side;  // of a tile
  int layers;
  int tiles;    // of each picture: 2 or 3
  int ranks;    // of stage 0, which encode together
  int threads;  // of each
};

struct Times {
  double clock = 0, processor = 0;  // seconds
};

std::vector<Picture> Pictures(const Case& c) {
  std::vector<Picture> pictures;
  for (int i = 0; i < kPictures; ++i) {
    auto picture = std::make_shared<PictureTiles>();
    picture->key = std::string(1, static_cast<char>('a' + i));
    picture->tiles = c.tiles;
    picture->height = c.side;
    picture->width = c.side * (c.tiles - 1);
    picture->pixels.assign(static_cast<size_t>(c.tiles * c.side * c.side * 3), static_cast<char>(17 * i));
    pictures.push_back(std::move(picture));
  }
  return pictures;
}

absl::StatusOr<Times> Encode(ThreadReplica& replica, const std::vector<Picture>& pictures, size_t at_once) {
  for (const Picture& picture : pictures) replica.Evict(picture->key);
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t used = std::clock();
  for (size_t i = 0; i < pictures.size(); i += at_once) {
    const std::span pass = std::span(pictures).subspan(i, std::min(at_once, pictures.size() - i));
    replica.Encode({pass.begin(), pass.end()});
    for (size_t n = 0; n < pass.size(); ++n) RETURN_IF_ERROR(replica.NextPicture().status());
  }
  return Times{.clock = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
               .processor = static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC};
}

absl::Status Run(const Case& c, const std::string& dir, int rounds) {
  const std::string folder = fmt::format("{}-{}-{}", dir, c.side, c.layers);
  RETURN_IF_ERROR(WriteRandomCheckpoint(folder, ConfigJson(c.side, c.layers)));
  std::ofstream(folder + "/preprocessor_config.json")
      << fmt::format(R"({{"size": [{0}, {0}], "patch_size": 14, "process_image_mode": "anyres",
 "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
 "image_grid_pinpoints": [[{0}, {0}], [{0}, {1}], [{1}, {0}], [{1}, {1}]]}})",
                     c.side, 2 * c.side);
  ThreadReplicaOptions options;
  options.weights_as_f32 = false;
  options.make_device = [&c] { return MakeDevice("cpu", DeviceOptions{.threads = c.threads}); };
  ASSIGN_OR_RETURN(const auto replica, ThreadReplica::Start(folder, {.tp = c.ranks}, options));
  const std::vector<Picture> pictures = Pictures(c);
  // As the coordinator would put them together.
  const auto together = static_cast<size_t>(TilesPerPass({.tp = c.ranks}) / c.tiles);
  std::vector<double> one_by_one, joined, clock, processor;
  for (int round = 0; round <= rounds; ++round) {
    ASSIGN_OR_RETURN(const Times apart, Encode(*replica, pictures, 1));
    ASSIGN_OR_RETURN(const Times joint, Encode(*replica, pictures, together));
    if (round == 0) continue;  // memory is touched for the first time
    one_by_one.push_back(apart.clock);
    joined.push_back(joint.clock);
    clock.push_back(apart.clock / joint.clock);
    processor.push_back(apart.processor / joint.processor);
  }
  const auto range = [](const std::vector<double>& ratios) {
    return fmt::format("{:.2f} ({:.2f} to {:.2f})", Median(ratios), *std::ranges::min_element(ratios),
                       *std::ranges::max_element(ratios));
  };
  std::printf("%-42s one by one %6.0f ms, together %6.0f ms: %s times, by processor time %s\n", c.what,
              1e3 * Median(one_by_one), 1e3 * Median(joined), range(clock).c_str(), range(processor).c_str());
  std::fflush(stdout);
  return absl::OkStatus();
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) {
  CLI::App app("Pictures through the vision tower together and one by one", "fulger-vision-bench");
  std::string dir = "build/bench-checkpoint-vision";
  int rounds = 5;
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  app.add_option("--dir", dir, "where the random checkpoints are kept (0.3 GB)")->capture_default_str();
  app.add_option("--rounds", rounds, "of each case")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  fulger::InitLogging("bench");
  const fulger::Case cases[] = {
      {"17 tokens a tile, 6 layers", 56, 6, 2, 1, threads},
      {"577 tokens a tile (released), 1 layer", 336, 1, 2, 1, threads},
      {"the same on 2 ranks, pictures of 3 tiles", 336, 1, 3, 2, std::max(1, threads / 2)},
  };
  for (const fulger::Case& c : cases) {
    const absl::Status status = fulger::Run(c, dir, rounds);
    if (status.ok()) continue;
    std::cerr << status << "\n";
    return 1;
  }
  return 0;
}
