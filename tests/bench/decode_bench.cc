// fulger-decode-bench: how much of this machine's read bandwidth a decode step at batch 1 reaches.
//
// Writes (once, under a folder of the user's choice) a checkpoint of random bfloat16 weights larger than any
// cache, loads it on one rank, decodes, and prints bytes touched per second beside the read bandwidth
// measured right before and after with the same threads. Bytes touched are the weights that a token uses
// (chosen experts only), from the table of tensors. Not a test: numbers of a shared machine vary.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <thread>
#include <vector>

#include "base/bfloat16.h"
#include "tests/support/plan_builder.h"
#include "tests/support/thread_replica.h"

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

absl::Status WriteCheckpoint(const std::string& dir) {
  std::filesystem::create_directories(dir);
  if (std::filesystem::exists(dir + "/complete")) return absl::OkStatus();
  std::printf("writing random weights to %s\n", dir.c_str());
  std::ofstream(dir + "/config.json") << kConfig;
  ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(kConfig));
  std::string header = "{";
  uint64_t offset = 0;
  const std::vector<TensorSpec> table = TensorTable(config);
  for (const TensorSpec& spec : table) {
    const std::string name = Locate(config, spec, Naming::kReleasedText).name;
    std::string shape;
    for (const int64_t d : spec.shape) shape += (shape.empty() ? "" : ",") + std::to_string(d);
    const uint64_t bytes = static_cast<uint64_t>(spec.elements()) * 2;
    header += fmt::format(R"({}"{}":{{"dtype":"BF16","shape":[{}],"data_offsets":[{},{}]}})",
                          header.size() == 1 ? "" : ",", name, shape, offset, offset + bytes);
    offset += bytes;
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  std::ofstream file(dir + "/model.safetensors", std::ios::binary);
  const uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof(length));
  file << header;
  uint64_t state = 1;
  std::vector<uint16_t> chunk(1 << 20);
  for (const TensorSpec& spec : table) {
    const bool norm = spec.shape.size() == 1;
    const float scale = norm ? 0.1F : 1.7F / std::sqrt(static_cast<float>(spec.shape.back()));
    for (int64_t done = 0; done < spec.elements();) {
      const int64_t n = std::min<int64_t>(static_cast<int64_t>(chunk.size()), spec.elements() - done);
      for (int64_t i = 0; i < n; ++i) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const float u = static_cast<float>(state >> 40) * 0x1p-23F - 1.0F;
        chunk[static_cast<size_t>(i)] = FloatToBF16((norm ? 1.0F : 0.0F) + scale * u);
      }
      file.write(reinterpret_cast<const char*>(chunk.data()), n * 2);
      done += n;
    }
  }
  if (!file.flush()) return Unavailable("{}/model.safetensors: the disk is full?", dir);
  std::ofstream(dir + "/complete") << "yes\n";
  return absl::OkStatus();
}

// Bytes per second that `threads` threads read from a buffer larger than any cache; the best of a few passes.
double ReadBandwidth(int threads) {
  const size_t words = (size_t{512} << 20) / sizeof(uint64_t);
  static std::vector<uint64_t> buffer(words, 1);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    std::vector<uint64_t> sums(static_cast<size_t>(threads) * 16);
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> pool;
    for (int t = 0; t < threads; ++t) {
      pool.emplace_back([&, t] {
        const size_t begin = words * static_cast<size_t>(t) / static_cast<size_t>(threads);
        const size_t end = words * static_cast<size_t>(t + 1) / static_cast<size_t>(threads);
        uint64_t a = 0, b = 0, c = 0, d = 0;
        for (size_t i = begin; i + 4 <= end; i += 4) {
          a += buffer[i];
          b += buffer[i + 1];
          c += buffer[i + 2];
          d += buffer[i + 3];
        }
        sums[static_cast<size_t>(t) * 16] = a + b + c + d;
      });
    }
    for (auto& t : pool) t.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (sums[0] == 0) std::printf("unreachable\n");
    best = std::max(best, static_cast<double>(words * sizeof(uint64_t)) / seconds);
  }
  return best;
}

// Weights that one token reads: everything but the embedding table and the experts that it does not choose.
double BytesPerToken(const ModelConfig& config) {
  double bytes = 0;
  for (const TensorSpec& spec : TensorTable(config)) {
    double share = 1;
    if (spec.component == Component::kEmbedding) share = 1.0 / static_cast<double>(config.text.vocab);
    if (spec.component == Component::kExperts) {
      share = static_cast<double>(config.text.experts_per_token) / static_cast<double>(config.text.experts);
    }
    bytes += share * static_cast<double>(spec.elements()) * 2;
  }
  return bytes;
}

absl::Status Run(const std::string& dir, int threads, int tokens) {
  RETURN_IF_ERROR(WriteCheckpoint(dir));
  ThreadReplicaOptions options;
  options.weights_as_f32 = false;
  options.make_device = [threads] { return MakeDevice("cpu", DeviceOptions{.threads = threads}); };
  ASSIGN_OR_RETURN(auto replica, ThreadReplica::Start(dir, Layout{}, options));
  PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
  const double bytes = BytesPerToken(replica->config());
  std::printf("%.0f MB of weights read per token, %d threads\n", bytes / 1e6, threads);
  std::vector<double> shares;
  for (int round = 0; round < 5; ++round) {
    const double before = ReadBandwidth(threads);
    DriverRequest request{.id = 1, .prompt = {1, 2, 3, 4}, .pictures = {}, .sampling = {}};
    request.sampling.set_max_tokens(tokens);
    request.sampling.set_logprobs(-1);
    const auto start = std::chrono::steady_clock::now();
    RETURN_IF_ERROR(driver.Run({request}).status());
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / tokens;
    const double bandwidth = (before + ReadBandwidth(threads)) / 2;
    shares.push_back(bytes / seconds / bandwidth);
    std::printf("round %d: %.2f ms per token, %.1f GB/s of %.1f GB/s read bandwidth: %.2f\n", round + 1,
                1e3 * seconds, bytes / seconds / 1e9, bandwidth / 1e9, shares.back());
  }
  std::sort(shares.begin(), shares.end());
  std::printf("decode, batch 1, bf16 weights: %.2f of the read bandwidth (median of %zu; %.2f to %.2f)\n",
              shares[shares.size() / 2], shares.size(), shares.front(), shares.back());
  return absl::OkStatus();
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) {
  CLI::App app("Decode at batch 1 against this machine's read bandwidth", "fulger-decode-bench");
  std::string dir = "build/bench-checkpoint";
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  int tokens = 24;
  app.add_option("--dir", dir, "where the random checkpoint is kept (3 GB)")->capture_default_str();
  app.add_option("--threads", threads, "compute threads")->capture_default_str();
  app.add_option("--tokens", tokens, "tokens per round")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = fulger::Run(dir, threads, tokens);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
