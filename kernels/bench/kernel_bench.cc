// fulger-kernel-bench: what the CPU kernels reach of this machine. Every figure stands beside the read
// bandwidth and the multiply-adds measured in the same run with the same threads; weights are larger than any
// cache.
//
//   fulger-kernel-bench [--threads N] [--kernels avx512|avx2|portable] [--seconds S] [--only SUBSTRING]
//   [--cpu-time]
//
// --cpu-time runs one thread and counts its processor time instead of wall time: for a machine that others
// use.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "kernels/bench/machine_limits.h"
#include "kernels/cpu/parallel.h"
#include "kernels/device/device.h"
#include "kernels/ops/ops.h"

namespace fulger {
namespace {

constexpr int64_t kColdBytes = int64_t{384} << 20;  // far beyond the last cache

struct Options {
  DeviceOptions device;
  double seconds = 1.0;  // per case
  std::string only;
  bool cpu_time = false;
};

double Now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Median and best of as many calls as fit into `seconds`, at least five.
struct Timing {
  double median;
  double best;
};
Timing Measure(const Options& options, const std::function<void()>& run) {
  const clockid_t clock = options.cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  run();
  std::vector<double> times;
  for (double spent = 0; spent < options.seconds || times.size() < 5;) {
    const double start = Now(clock);
    run();
    times.push_back(Now(clock) - start);
    spent += times.back();
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times.front()};
}

class Bench {
 public:
  Bench(Device& device, Options options) : device_(device), options_(std::move(options)) {}

  void Run() {
    MeasureBandwidth();
    for (const int64_t t : {1, 2, 3, 4, 6, 8, 12, 16, 64, 256})
      Linear("linear bf16 3072x6144", t, 3072, 6144);
    Linear("linear bf16 6144x1024", 1, 6144, 1024);
    for (const int64_t t : {1, 4, 64}) Moe(t);
    LightningDecode();
    for (const int64_t block : {64, 128, 256}) LightningPrefill(block);
    PagedDecode();
    FullAttention();
  }

 private:
  MutTensorView Tensor(DType dtype, std::initializer_list<int64_t> shape) {
    const MutTensorView shape_only(nullptr, dtype, shape);
    auto buffer = device_.Allocate(static_cast<size_t>(shape_only.bytes()));
    if (!buffer.ok()) {
      std::fprintf(stderr, "fulger-kernel-bench: %s\n", Message(buffer.status()).c_str());
      std::exit(1);
    }
    buffers_.push_back(std::move(buffer).value());
    MutTensorView view(buffers_.back().data(), dtype, shape);
    Fill(view);
    return view;
  }
  // Small values everywhere: pages exist, sums stay finite.
  static void Fill(const MutTensorView& view) {
    if (view.dtype() == DType::kF32) {
      for (int64_t i = 0; i < view.elements(); ++i) {
        view.mut_data<float>()[i] = 0.01F * static_cast<float>(i % 13 - 6);
      }
    } else if (view.dtype() == DType::kBF16) {
      for (int64_t i = 0; i < view.elements(); ++i) {
        view.mut_data<uint16_t>()[i] = static_cast<uint16_t>(0x3c00 + i % 97);  // about 0.0078
      }
    }
  }

  void MeasureBandwidth() {
    ComputePool pool(options_.device.threads > 0 ? options_.device.threads : AvailableThreads());
    LimitsProbe probe;
    limits_ = probe.Measure(pool);
    std::printf("%d threads: read bandwidth %.1f GB/s, %s multiply-adds %.1f GFLOP/s\n", pool.threads(),
                1e-9 * limits_.read_bytes_per_second, probe.instruction_set(),
                1e-9 * limits_.flops_per_second);
    std::printf("%-36s %10s %9s %9s %9s %9s %9s\n", "case", "median us", "best us", "GB/s", "of read",
                "GFLOP/s", "of peak");
  }

  void Report(const std::string& name, double bytes, double flops, const std::function<absl::Status()>& run) {
    if (name.find(options_.only) != std::string::npos) {
      const Timing t = Measure(options_, [&] {
        if (const absl::Status status = run(); !status.ok()) {
          std::fprintf(stderr, "fulger-kernel-bench: %s: %s\n", name.c_str(), Message(status).c_str());
          std::exit(1);
        }
      });
      std::printf("%-36s %10.1f %9.1f %9.1f %8.0f%% %9.1f %8.0f%%\n", name.c_str(), 1e6 * t.median,
                  1e6 * t.best, 1e-9 * bytes / t.median,
                  100 * bytes / t.median / limits_.read_bytes_per_second, 1e-9 * flops / t.median,
                  100 * flops / t.median / limits_.flops_per_second);
      std::fflush(stdout);
    }
    buffers_.clear();
  }

  void Linear(const std::string& name, int64_t t, int64_t n, int64_t k) {
    const int64_t copies = kColdBytes / (n * k * 2) + 1;
    const MutTensorView w = Tensor(DType::kBF16, {copies, n, k});
    const MutTensorView x = Tensor(DType::kF32, {t, k});
    const MutTensorView out = Tensor(DType::kF32, {t, n});
    int64_t copy = 0;
    Report(name + " T=" + std::to_string(t), static_cast<double>(n * k * 2),
           2.0 * static_cast<double>(t * n * k), [&] {
             copy = (copy + 1) % copies;
             const TensorView one = w.Slice(0, copy, 1).Reshape({n, k});
             return device_.ops().Linear(device_.stream(), {.x = x, .w = one, .bias = {}, .out = out});
           });
  }

  // One rank of eight: 8 of the experts' columns; two experts a token.
  void Moe(int64_t t) {
    constexpr int64_t kExperts = 10;
    constexpr int64_t kF = 1152;
    constexpr int64_t kH = 6144;
    const MutTensorView w1 = Tensor(DType::kBF16, {kExperts, kF, kH});
    const MutTensorView w3 = Tensor(DType::kBF16, {kExperts, kF, kH});
    const MutTensorView w2 = Tensor(DType::kBF16, {kExperts, kH, kF});
    const MutTensorView x = Tensor(DType::kF32, {t, kH});
    const MutTensorView weights = Tensor(DType::kF32, {t, 2});
    const MutTensorView ids = Tensor(DType::kI32, {t, 2});
    const MutTensorView out = Tensor(DType::kF32, {t, kH});
    int64_t round = 0;
    const int64_t hit = std::min<int64_t>(2 * t, kExperts);
    Report("moe bf16 10 experts 1152x6144 T=" + std::to_string(t), static_cast<double>(hit * 3 * kF * kH * 2),
           2.0 * static_cast<double>(2 * t * 3 * kF * kH), [&] {
             for (int64_t i = 0; i < 2 * t; ++i) {
               ids.mut_data<int32_t>()[i] = static_cast<int32_t>((2 * round + i) % kExperts);
             }
             ++round;
             return device_.ops().Moe(device_.stream(), {.x = x,
                                                         .ids = ids,
                                                         .weights = weights,
                                                         .w1 = w1,
                                                         .w3 = w3,
                                                         .w2 = w2,
                                                         .first_expert = 0,
                                                         .out = out});
           });
  }

  void LightningDecode() {
    constexpr int64_t kHeads = 64;
    constexpr int64_t kD = 128;
    constexpr int64_t kBatch = 32;
    const MutTensorView qkv = Tensor(DType::kF32, {kBatch, kHeads, 3 * kD});
    const MutTensorView slopes = Tensor(DType::kF32, {kHeads});
    for (int64_t h = 0; h < kHeads; ++h) slopes.mut_data<float>()[h] = 0.1F;
    const MutTensorView states = Tensor(DType::kF32, {kBatch, kHeads, kD, kD});
    const MutTensorView out = Tensor(DType::kF32, {kBatch, kHeads * kD});
    std::vector<LightningSegment> segments;
    for (int64_t i = 0; i < kBatch; ++i)
      segments.push_back({.row = i, .count = 1, .slot = static_cast<int32_t>(i)});
    Report("lightning decode 32 x 64 heads", 2.0 * static_cast<double>(states.bytes()),
           4.0 * static_cast<double>(states.elements()), [&] {
             return device_.ops().Lightning(device_.stream(), {.qkv = qkv,
                                                               .slopes = slopes,
                                                               .segments = segments,
                                                               .states = states,
                                                               .out = out,
                                                               .block = 256});
           });
  }

  void LightningPrefill(int64_t block) {
    constexpr int64_t kHeads = 8;
    constexpr int64_t kD = 128;
    constexpr int64_t kT = 2048;
    const MutTensorView qkv = Tensor(DType::kF32, {kT, kHeads, 3 * kD});
    const MutTensorView slopes = Tensor(DType::kF32, {kHeads});
    for (int64_t h = 0; h < kHeads; ++h) slopes.mut_data<float>()[h] = 0.1F;
    const MutTensorView states = Tensor(DType::kF32, {1, kHeads, kD, kD});
    const MutTensorView out = Tensor(DType::kF32, {kT, kHeads * kD});
    const LightningSegment segment{.row = 0, .count = kT, .slot = 0};
    // Per token: half a block of scores and values, the old state read and the new one built.
    const double flops = 4.0 * kT * kHeads * kD * (static_cast<double>(block) / 2 + kD);
    Report("lightning prefill 2048 block=" + std::to_string(block),
           static_cast<double>(qkv.bytes() + out.bytes()), flops, [&] {
             return device_.ops().Lightning(device_.stream(), {.qkv = qkv,
                                                               .slopes = slopes,
                                                               .segments = {&segment, 1},
                                                               .states = states,
                                                               .out = out,
                                                               .block = block});
           });
  }

  void PagedDecode() {
    constexpr int64_t kContext = 65536;
    constexpr int64_t kBlock = 64;
    constexpr int64_t kKv = 8;
    constexpr int64_t kD = 128;
    const MutTensorView k = Tensor(DType::kBF16, {kContext / kBlock, kKv, kBlock, kD});
    const MutTensorView v = Tensor(DType::kBF16, {kContext / kBlock, kKv, kBlock, kD});
    const MutTensorView q = Tensor(DType::kF32, {1, 8 * kKv, kD});
    const MutTensorView out = Tensor(DType::kF32, {1, 8 * kKv * kD});
    std::vector<int32_t> blocks(kContext / kBlock);
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>(i);
    const AttentionSegment segment{.row = 0, .count = 1, .position = kContext - 1, .blocks = blocks};
    Report("paged attention decode 64k bf16", static_cast<double>(k.bytes() + v.bytes()),
           4.0 * 8 * static_cast<double>(k.elements()), [&] {
             return device_.ops().PagedAttention(
                 device_.stream(),
                 {.q = q, .k_cache = k, .v_cache = v, .segments = {&segment, 1}, .scale = 0.1F, .out = out});
           });
  }

  void FullAttention() {
    constexpr int64_t kS = 577;
    const MutTensorView qkv = Tensor(DType::kF32, {2, kS, 48, 64});
    const MutTensorView out = Tensor(DType::kF32, {2, kS, 16 * 64});
    Report("full attention 2 tiles", static_cast<double>(qkv.bytes() + out.bytes()),
           4.0 * 2 * 16 * kS * kS * 64, [&] {
             return device_.ops().FullAttention(device_.stream(), {.q = qkv.Slice(2, 0, 16),
                                                                   .k = qkv.Slice(2, 16, 16),
                                                                   .v = qkv.Slice(2, 32, 16),
                                                                   .scale = 0.125F,
                                                                   .out = out});
           });
  }

  Device& device_;
  const Options options_;
  MachineLimits limits_;
  std::vector<Buffer> buffers_;
};

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (flag == "--kernels" && value != nullptr) {
      options.device.kernels = argv[++i];
    } else if (flag == "--cpu-time") {
      options.cpu_time = true;
      options.device.threads = 1;
    } else if (flag == "--threads" && value != nullptr) {
      options.device.threads = std::atoi(argv[++i]);
    } else if (flag == "--seconds" && value != nullptr) {
      options.seconds = std::atof(argv[++i]);
    } else if (flag == "--only" && value != nullptr) {
      options.only = argv[++i];
    } else {
      std::fprintf(stderr,
                   "usage: %s [--threads N] [--kernels avx512|avx2|portable] [--seconds S per case] [--only "
                   "SUBSTRING] [--cpu-time]\n",
                   argv[0]);
      return flag == "--help" ? 0 : 2;
    }
  }
  auto device = MakeDevice("cpu", options.device);
  if (!device.ok()) {
    std::fprintf(stderr, "fulger-kernel-bench: %s\n", Message(device.status()).c_str());
    return 1;
  }
  std::printf("%s\n", (*device)->Describe().c_str());
  Bench(**device, options).Run();
  return 0;
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) { return fulger::Main(argc, argv); }
