// fulger-plan-bench: what `fulger plan` is told of this machine, and the steps that it predicted. Driven by
// plan_bench.py.
//
//   fulger-plan-bench --calibrate [--threads N]             rates of products and the fixed time of an
//   operation mpirun -np N fulger-plan-bench --calibrate-links        an all-reduce and a message [mpirun -np
//   N] fulger-plan-bench --dir D --pp P --ep E --batch B --context C    seconds of a decode step
//
// Rank 0 prints one JSON object.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "kernels/ops/ops.h"
#include "tests/bench/bench_rank.h"
#include "tests/bench/quantile.h"
#include "tests/bench/random_checkpoint.h"
#include "worker/comm/fabric_factory.h"

namespace fulger {
namespace {

// 480 million parameters, 160 million used by a token: far more than any cache, and quick to load.
constexpr char kConfig[] = R"({"architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01",
 "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 8,
 "num_key_value_heads": 4, "head_dim": 128, "num_local_experts": 8, "num_experts_per_tok": 2, "hidden_act": "silu",
 "vocab_size": 16000, "rms_norm_eps": 1e-05, "max_position_embeddings": 8192, "tie_word_embeddings": false,
 "attn_type_list": [0, 0, 0, 1, 0, 0, 0, 1], "rope_theta": 10000000, "rotary_dim": 64, "postnorm": true,
 "shared_intermediate_size": [0], "shared_moe_mode": "sigmoid",
 "layernorm_full_attention_alpha": 2.0, "layernorm_full_attention_beta": 1.0,
 "layernorm_linear_attention_alpha": 2.0, "layernorm_linear_attention_beta": 1.0,
 "layernorm_mlp_alpha": 2.0, "layernorm_mlp_beta": 1.0})";

struct Flags {
  std::string dir = "build/plan-bench-checkpoint";
  std::string experts = "stored";
  bool calibrate = false, links = false, write = false;
  int threads = 0, pp = 1, ep = 1, ranks = 1, steps = 16;
  int64_t batch = 1, context = 32;
};

double SecondsOf(const std::function<absl::Status()>& work, absl::Status* status) {
  const auto start = std::chrono::steady_clock::now();
  if (status->ok()) *status = work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Products of bfloat16 weights, 512 MB of matrices in turn so that no cache holds them.
class Products {
 public:
  static absl::StatusOr<Products> Make(Device& device) {
    Products p(device);
    ASSIGN_OR_RETURN(p.weights_, device.Allocate(kMatrices * kSide * kSide * 2));
    // Not zeros: a host may keep such pages once for all.
    auto* const words = static_cast<uint32_t*>(p.weights_.data());
    for (size_t i = 0; i < p.weights_.bytes() / sizeof(uint32_t); ++i) {
      words[i] = 0x3c003c00U | (static_cast<uint32_t>(i * 2654435761U) & 0x00ff00ffU);
    }
    ASSIGN_OR_RETURN(p.in_, device.Allocate(kMostRows * kSide * 4));
    ASSIGN_OR_RETURN(p.out_, device.Allocate(kMostRows * kSide * 4));
    RETURN_IF_ERROR(device.Zero(device.stream(), p.in_.data(), p.in_.bytes()));
    return p;
  }

  // Seconds of one product of `rows` rows with all kMatrices, each.
  absl::StatusOr<double> Time(int64_t rows) {
    std::vector<double> times;
    absl::Status status;
    for (int repeat = 0; repeat < 5; ++repeat) {
      times.push_back(SecondsOf(
          [&]() -> absl::Status {
            for (size_t m = 0; m < kMatrices; ++m) RETURN_IF_ERROR(One(rows, kSide, m));
            return absl::OkStatus();
          },
          &status));
    }
    RETURN_IF_ERROR(status);
    return Median(times) / kMatrices;
  }
  // Of one that is too small to take time itself.
  absl::StatusOr<double> TimeTiny() {
    absl::Status status;
    constexpr int kTimes = 2000;
    const double seconds = SecondsOf(
        [&]() -> absl::Status {
          for (int i = 0; i < kTimes; ++i) RETURN_IF_ERROR(One(1, 64, 0));
          return absl::OkStatus();
        },
        &status);
    RETURN_IF_ERROR(status);
    return seconds / kTimes;
  }

  static constexpr size_t kSide = 2048, kMatrices = 64, kMostRows = 64;

 private:
  explicit Products(Device& device) : device_(device) {}
  absl::Status One(int64_t rows, size_t side, size_t matrix) {
    const auto n = static_cast<int64_t>(side);
    const TensorView w(static_cast<char*>(weights_.data()) + matrix * kSide * kSide * 2, DType::kBF16,
                       {n, n});
    return device_.ops().Linear(device_.stream(),
                                {.x = TensorView(in_.data(), DType::kF32, {rows, n}),
                                 .w = w,
                                 .bias = {},
                                 .out = MutTensorView(out_.data(), DType::kF32, {rows, n})});
  }

  Device& device_;
  Buffer weights_, in_, out_;
};

absl::StatusOr<nlohmann::json> Calibrate(const Flags& flags) {
  ASSIGN_OR_RETURN(const auto device, MakeDevice("cpu", {.threads = flags.threads}));
  ASSIGN_OR_RETURN(Products products, Products::Make(*device));
  ASSIGN_OR_RETURN(const double one, products.Time(1));
  ASSIGN_OR_RETURN(const double many, products.Time(Products::kMostRows));
  ASSIGN_OR_RETURN(const double tiny, products.TimeTiny());
  constexpr double kElements = static_cast<double>(Products::kSide) * Products::kSide;
  return nlohmann::json{{"read_bytes_per_second", 2 * kElements / one},
                        {"flops_per_second", 2 * kElements * Products::kMostRows / many},
                        {"operation_seconds", tiny},
                        {"device", device->Describe()}};
}

absl::StatusOr<nlohmann::json> CalibrateLinks() {
  ASSIGN_OR_RETURN(const auto device, MakeDevice("cpu", {.threads = 1}));
  ASSIGN_OR_RETURN(const auto fabric, MakeFabric("mpi", {}));
  std::vector<int> all;
  for (int r = 0; r < fabric->size(); ++r) all.push_back(r);
  ASSIGN_OR_RETURN(const auto group, fabric->Group(all, "calibration"));
  constexpr size_t kSmall = 1024, kLarge = size_t{1} << 20;
  std::vector<float> data(kLarge);
  const auto time = [&](size_t count, int times) -> absl::StatusOr<double> {
    std::vector<double> seconds;
    for (int i = 0; i < times; ++i) {
      absl::Status status;
      seconds.push_back(SecondsOf(
          [&] {
            return group->AllReduceSum(
                device->stream(), MutTensorView(data.data(), DType::kF32, {static_cast<int64_t>(count)}));
          },
          &status));
      RETURN_IF_ERROR(status);
    }
    return Median(seconds);
  };
  ASSIGN_OR_RETURN(const double warm, time(kSmall, 50));
  static_cast<void>(warm);
  ASSIGN_OR_RETURN(const double small, time(kSmall, 400));
  ASSIGN_OR_RETURN(const double large, time(kLarge, 20));
  const double share = 2.0 * (fabric->size() - 1) / fabric->size();
  return nlohmann::json{
      {"rank", fabric->rank()},
      {"ranks", fabric->size()},
      {"all_reduce_seconds", small},
      {"all_reduce_bytes_per_second", share * 4 * (kLarge - kSmall) / std::max(1e-9, large - small)}};
}

absl::StatusOr<nlohmann::json> Steps(const Flags& flags) {
  ASSIGN_OR_RETURN(const WeightFormat experts, WeightFormatFromName("experts", flags.experts));
  ASSIGN_OR_RETURN(const auto rank, BenchRank::Start({.dir = flags.dir,
                                                      .transport = flags.ranks == 1 ? "single" : "mpi",
                                                      .device = {.threads = flags.threads},
                                                      .pp = flags.pp,
                                                      .ep = flags.ep,
                                                      .experts = experts,
                                                      .max_tokens = flags.batch * flags.context,
                                                      .max_context = flags.context + 3 * flags.steps + 8,
                                                      .max_batch = flags.batch}));
  RETURN_IF_ERROR(rank->Prefill(flags.batch, flags.context).status());
  for (int i = 0; i < 4; ++i) RETURN_IF_ERROR(rank->Decode().status());
  // In a pipeline a step's time on one rank says little: the steps of a round follow each other by feedback.
  std::vector<double> rounds;
  for (int round = 0; round < 3; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < flags.steps; ++i) RETURN_IF_ERROR(rank->Decode().status());
    rounds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
                     flags.steps);
  }
  return nlohmann::json{{"rank", rank->rank()}, {"seconds_per_step", Median(rounds)}, {"rounds", rounds}};
}

absl::Status Run(const Flags& flags) {
  if (flags.write) return WriteRandomCheckpoint(flags.dir, kConfig);
  ASSIGN_OR_RETURN(const nlohmann::json out, flags.calibrate ? Calibrate(flags)
                                             : flags.links   ? CalibrateLinks()
                                                             : Steps(flags));
  if (out.value("rank", 0) == 0) std::cout << out.dump() << std::endl;
  return absl::OkStatus();
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) {
  CLI::App app("What a plan is told of this machine, and steps to compare it with", "fulger-plan-bench");
  fulger::Flags flags;
  app.add_option("--dir", flags.dir, "the random checkpoint (1 GB)")->capture_default_str();
  app.add_flag("--write", flags.write, "write it");
  app.add_flag("--calibrate", flags.calibrate, "rates of products");
  app.add_flag("--calibrate-links", flags.links, "all-reduces, under mpirun");
  app.add_option("--threads", flags.threads, "compute threads of a rank; 0: all cores")
      ->capture_default_str();
  app.add_option("--ranks", flags.ranks, "as mpirun -np")->capture_default_str();
  app.add_option("--pp", flags.pp, "stages")->capture_default_str();
  app.add_option("--ep", flags.ep, "expert groups")->capture_default_str();
  app.add_option("--experts", flags.experts, "stored or int8")->capture_default_str();
  app.add_option("--batch", flags.batch, "sequences")->capture_default_str();
  app.add_option("--context", flags.context, "tokens of each prompt")->capture_default_str();
  app.add_option("--steps", flags.steps, "decode steps of a round")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  fulger::InitLogging("bench");
  const absl::Status status = fulger::Run(flags);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
