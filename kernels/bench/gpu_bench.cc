// fulger-gpu-bench: what the ops reach of a GPU, at the shapes of one rank of eight (and some at full width).
// Every figure stands beside the copy rate and the product rate measured in the same run. Each case: as many
// calls as fill 20 ms between two synchronisations, ten times; the median counts. Weights rotate through more
// memory than the cache holds.
//
//   fulger-gpu-bench [--device cuda:N] [--only SUBSTRING] [--json FILE] [--own-products]
#include "kernels/bench/gpu_bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "kernels/device/device.h"
#include "kernels/ops/ops.h"

namespace fulger {
namespace {

constexpr int64_t kColdBytes = int64_t{256} << 20;  // several times a GPU's cache
constexpr int64_t kHidden = 6144;

struct Result {
  std::string name;
  double microseconds, bytes, flops;
};

[[noreturn]] void Die(const std::string& what, const absl::Status& status) {
  std::fprintf(stderr, "fulger-gpu-bench: %s: %s\n", what.c_str(), Message(status).c_str());
  std::exit(1);
}

class Bench {
 public:
  Bench(Device& device, std::string only) : d_(device), only_(std::move(only)) {}

  void Run() {
    Ceilings();
    for (const int64_t t : {1, 4, 8, 16, 64, 256, 2048}) Linear("lightning qkv", t, 3072, kHidden);
    for (const int64_t t : {1, 8, 64}) Linear("lightning out", t, kHidden, 1024);
    for (const int64_t t : {1, 64}) Linear("lm_head", t, 25008, kHidden);
    for (const int64_t t : {1, 2, 8, 32, 64, 256, 2048}) Moe("moe, a rank of 8", t, 32, 1152);
    for (const int64_t t : {1, 8, 2048}) Moe("moe, full width", t, 8, 9216);
    for (const int64_t t : {1, 64, 2048}) Router(t);
    for (const int64_t n : {1, 64, 256}) LightningDecode(n, 8);
    LightningDecode(64, 64);
    for (const int64_t t : {2048, 16384}) LightningPrefill(t, 8);
    LightningPrefill(2048, 64);
    PagedDecode(1, 4096);
    PagedDecode(32, 4096);
    PagedDecode(8, 131072);
    PagedPrefill(2048, 2048);
    PagedPrefill(2048, 16384);
    FullAttention(4);
    for (const int64_t t : {1, 64, 2048}) Norm(t);
  }

  const std::vector<Result>& results() const { return results_; }
  double copy_rate() const { return copy_rate_; }
  double product_rate() const { return product_rate_; }

 private:
  MutTensorView Tensor(DType dtype, std::initializer_list<int64_t> shape) {
    const MutTensorView shape_only(nullptr, dtype, shape);
    const auto bytes = static_cast<size_t>(shape_only.bytes());
    auto buffer = d_.Allocate(bytes);
    if (!buffer.ok()) Die("memory", buffer.status());
    buffers_.push_back(std::move(buffer).value());
    MutTensorView view(buffers_.back().data(), dtype, shape);
    Fill(view, bytes);
    return view;
  }
  // Small values of varying sign: the power that a product draws depends on its bits.
  void Fill(const MutTensorView& view, size_t bytes) {
    constexpr size_t kPattern = size_t{4} << 20;
    std::vector<char> host(std::min(bytes, kPattern));
    uint32_t state = 2463534242U;
    const auto next = [&] { return state = state * 1664525U + 1013904223U; };
    if (view.dtype() == DType::kF32) {
      auto* p = reinterpret_cast<float*>(host.data());
      for (size_t i = 0; i < host.size() / 4; ++i) p[i] = static_cast<float>(next() >> 8) * 0x1p-24F - 0.5F;
    } else if (view.dtype() == DType::kBF16) {
      auto* p = reinterpret_cast<uint16_t*>(host.data());
      for (size_t i = 0; i < host.size() / 2; ++i)
        p[i] = static_cast<uint16_t>(0x3c00 | (next() >> 24) | (next() >> 16 & 0x8000));
    }
    Must("fill", d_.CopyToDevice(d_.stream(), host.data(), view.mut_raw(), host.size()));
    for (size_t done = host.size(); done < bytes;) {
      const size_t part = std::min(done, bytes - done);
      Must("fill", d_.Copy(d_.stream(), view.raw(), static_cast<char*>(view.mut_raw()) + done, part));
      done += part;
    }
  }
  template <typename T>
  MutTensorView Upload(const std::vector<T>& values, std::initializer_list<int64_t> shape) {
    const MutTensorView view = Tensor(DTypeOf<T>(), shape);
    Must("upload", d_.CopyToDevice(d_.stream(), values.data(), view.mut_raw(), values.size() * sizeof(T)));
    return view;
  }
  static void Must(const std::string& what, const absl::Status& status) {
    if (!status.ok()) Die(what, status);
  }

  double Seconds(const std::string& name, const std::function<absl::Status()>& run, int calls) {
    Must(name, d_.stream().Synchronize());
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) Must(name, run());
    Must(name, d_.stream().Synchronize());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls;
  }
  double Median(const std::string& name, const std::function<absl::Status()>& run) {
    Seconds(name, run, 3);  // loads modules, asks heuristics, grows scratch
    const double once = Seconds(name, run, 3);
    const int calls = std::clamp(static_cast<int>(0.02 / std::max(once, 1e-7)), 1, 2000);
    std::vector<double> times;
    for (int i = 0; i < 10; ++i) times.push_back(Seconds(name, run, calls));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }
  void Report(const std::string& name, double bytes, double flops, const std::function<absl::Status()>& run) {
    if (name.find(only_) != std::string::npos) {
      const double s = Median(name, run);
      results_.push_back({name, 1e6 * s, bytes, flops});
      std::printf("%-44s %10.1f us %9.1f GB/s %6.1f%% of copy %9.2f TFLOP/s\n", name.c_str(), 1e6 * s,
                  1e-9 * bytes / s, 100 * bytes / s / copy_rate_, 1e-12 * flops / s);
      std::fflush(stdout);
    }
    buffers_.clear();
  }

  void Ceilings() {
    constexpr int64_t kBytes = int64_t{1} << 30;
    const MutTensorView from = Tensor(DType::kU8, {kBytes});
    const MutTensorView to = Tensor(DType::kU8, {kBytes});
    copy_rate_ =
        2.0 * kBytes / Median("copy", [&] { return d_.Copy(d_.stream(), from.raw(), to.mut_raw(), kBytes); });
    buffers_.clear();
    constexpr int64_t kN = 8192;
    const MutTensorView x = Tensor(DType::kF32, {kN, kN});
    const MutTensorView w = Tensor(DType::kBF16, {kN, kN});
    const MutTensorView out = Tensor(DType::kF32, {kN, kN});
    const double flops = 2.0 * kN * kN * kN;
    product_rate_ = flops / Median("product", [&] {
                      return d_.ops().Linear(d_.stream(), {.x = x, .w = w, .bias = {}, .out = out});
                    });
    buffers_.clear();
    std::printf(
        "copy, bytes read and written: %.2f TB/s; product 8192^3, float32 x bfloat16: %.1f TFLOP/s (three "
        "tensor-core "
        "products: %.1f)\n",
        1e-12 * copy_rate_, 1e-12 * product_rate_, 3e-12 * product_rate_);
  }

  void Linear(const std::string& what, int64_t t, int64_t n, int64_t k) {
    const int64_t copies = kColdBytes / (n * k * 2) + 1;
    const MutTensorView w = Tensor(DType::kBF16, {copies, n, k});
    const MutTensorView x = Tensor(DType::kF32, {t, k});
    const MutTensorView out = Tensor(DType::kF32, {t, n});
    int64_t copy = 0;
    Report(fmt::format("linear, {}: T={} {}x{}", what, t, n, k),
           static_cast<double>(n * k * 2 + 4 * t * (n + k)), 2.0 * static_cast<double>(t * n * k), [&] {
             copy = (copy + 1) % copies;
             return d_.ops().Linear(
                 d_.stream(), {.x = x, .w = w.Slice(0, copy, 1).Reshape({n, k}), .bias = {}, .out = out});
           });
  }

  void Moe(const std::string& what, int64_t t, int64_t experts, int64_t f) {
    const MutTensorView w1 = Tensor(DType::kBF16, {experts, f, kHidden});
    const MutTensorView w3 = Tensor(DType::kBF16, {experts, f, kHidden});
    const MutTensorView w2 = Tensor(DType::kBF16, {experts, kHidden, f});
    const MutTensorView x = Tensor(DType::kF32, {t, kHidden});
    const MutTensorView weights = Tensor(DType::kF32, {t, 2});
    const MutTensorView out = Tensor(DType::kF32, {t, kHidden});
    // Several routings, so that single tokens do not find their experts in the cache.
    std::vector<MutTensorView> routings;
    std::vector<double> hit;
    uint32_t state = 12345;
    for (int r = 0; r < 8; ++r) {
      std::vector<int32_t> ids;
      std::vector<bool> seen(static_cast<size_t>(experts));
      for (int64_t i = 0; i < t; ++i) {
        state = state * 1664525U + 1013904223U;
        const auto first = static_cast<int64_t>(state >> 16) % experts;
        const int64_t second =
            (first + 1 + static_cast<int64_t>(state >> 8 & 0xff) % (experts - 1)) % experts;
        for (const int64_t e : {first, second}) {
          ids.push_back(static_cast<int32_t>(e));
          seen[static_cast<size_t>(e)] = true;
        }
      }
      routings.push_back(Upload(ids, {t, 2}));
      hit.push_back(static_cast<double>(std::count(seen.begin(), seen.end(), true)));
    }
    double mean = 0;
    for (const double h : hit) mean += h / static_cast<double>(hit.size());
    size_t round = 0;
    Report(fmt::format("{}: T={} {} experts x {}", what, t, experts, f),
           mean * static_cast<double>(3 * f * kHidden * 2) + static_cast<double>(8 * t * kHidden),
           2.0 * static_cast<double>(2 * t * 3 * f * kHidden), [&] {
             round = (round + 1) % routings.size();
             return d_.ops().Moe(d_.stream(), {.x = x,
                                               .ids = routings[round],
                                               .weights = weights,
                                               .w1 = w1,
                                               .w3 = w3,
                                               .w2 = w2,
                                               .first_expert = 0,
                                               .out = out});
           });
  }

  void Router(int64_t t) {
    const MutTensorView x = Tensor(DType::kF32, {t, kHidden});
    const MutTensorView gate = Tensor(DType::kBF16, {32, kHidden});
    const MutTensorView ids = Tensor(DType::kI32, {t, 2});
    const MutTensorView weights = Tensor(DType::kF32, {t, 2});
    Report(fmt::format("router: T={}", t), static_cast<double>(x.bytes() + gate.bytes()),
           2.0 * static_cast<double>(t * 32 * kHidden), [&] {
             return d_.ops().Router(d_.stream(), {.x = x, .gate = gate, .ids = ids, .weights = weights});
           });
  }

  void LightningDecode(int64_t n, int64_t heads) {
    const MutTensorView qkv = Tensor(DType::kF32, {n, heads, 384});
    const MutTensorView slopes = Upload(std::vector<float>(static_cast<size_t>(heads), 0.1F), {heads});
    const MutTensorView states = Tensor(DType::kF32, {n, heads, 128, 128});
    const MutTensorView out = Tensor(DType::kF32, {n, heads * 128});
    std::vector<LightningSegment> segments;
    for (int64_t i = 0; i < n; ++i)
      segments.push_back({.row = i, .count = 1, .slot = static_cast<int32_t>(n - 1 - i)});
    Report(fmt::format("lightning decode: {} sequences x {} heads", n, heads),
           2.0 * static_cast<double>(states.bytes()), 4.0 * static_cast<double>(states.elements()), [&] {
             return d_.ops().Lightning(d_.stream(), {.qkv = qkv,
                                                     .slopes = slopes,
                                                     .segments = segments,
                                                     .states = states,
                                                     .out = out,
                                                     .block = 256});
           });
  }

  void LightningPrefill(int64_t t, int64_t heads) {
    const MutTensorView qkv = Tensor(DType::kF32, {t, heads, 384});
    const MutTensorView slopes = Upload(std::vector<float>(static_cast<size_t>(heads), 0.1F), {heads});
    const MutTensorView states = Tensor(DType::kF32, {1, heads, 128, 128});
    const MutTensorView out = Tensor(DType::kF32, {t, heads * 128});
    const LightningSegment segment{.row = 0, .count = t, .slot = 0};
    Report(fmt::format("lightning prefill: {} tokens x {} heads", t, heads),
           static_cast<double>(qkv.bytes() + out.bytes()),
           4.0 * static_cast<double>(t * heads * 128 * (64 + 128)), [&] {
             return d_.ops().Lightning(d_.stream(), {.qkv = qkv,
                                                     .slopes = slopes,
                                                     .segments = {&segment, 1},
                                                     .states = states,
                                                     .out = out,
                                                     .block = 256});
           });
  }

  // One rank of eight: 8 query heads over 1 kv head of 128, bfloat16 cache in blocks of 16.
  struct Paged {
    MutTensorView q, k, v, out;
    std::vector<std::vector<int32_t>> tables;
    std::vector<AttentionSegment> segments;
  };
  Paged MakePaged(int64_t sequences, int64_t rows, int64_t context) {
    Paged p;
    const int64_t blocks = (context + 15) / 16;
    p.q = Tensor(DType::kF32, {sequences * rows, 8, 128});
    p.k = Tensor(DType::kBF16, {sequences * blocks, 1, 16, 128});
    p.v = Tensor(DType::kBF16, {sequences * blocks, 1, 16, 128});
    p.out = Tensor(DType::kF32, {sequences * rows, 1024});
    for (int64_t s = 0; s < sequences; ++s) {
      std::vector<int32_t> table;
      for (int64_t b = 0; b < blocks; ++b) table.push_back(static_cast<int32_t>(b * sequences + s));
      p.tables.push_back(std::move(table));
    }
    for (int64_t s = 0; s < sequences; ++s) {
      p.segments.push_back({.row = s * rows,
                            .count = rows,
                            .position = context - rows,
                            .blocks = p.tables[static_cast<size_t>(s)]});
    }
    return p;
  }
  void PagedCase(const std::string& name, const Paged& p, double bytes, double flops) {
    Report(name, bytes, flops, [&] {
      return d_.ops().PagedAttention(
          d_.stream(),
          {.q = p.q, .k_cache = p.k, .v_cache = p.v, .segments = p.segments, .scale = 0.088F, .out = p.out});
    });
  }
  void PagedDecode(int64_t sequences, int64_t context) {
    const Paged p = MakePaged(sequences, 1, context);
    PagedCase(fmt::format("paged decode: {} sequences at {}", sequences, context), p,
              static_cast<double>(p.k.bytes() + p.v.bytes()), 4.0 * 8 * static_cast<double>(p.k.elements()));
  }
  void PagedPrefill(int64_t rows, int64_t context) {
    const Paged p = MakePaged(1, rows, context);
    const double seen =
        static_cast<double>(rows) * (static_cast<double>(context) - static_cast<double>(rows) / 2);
    PagedCase(fmt::format("paged prefill: {} rows at {}", rows, context), p,
              static_cast<double>(p.k.bytes() + p.v.bytes() + p.q.bytes() + p.out.bytes()),
              4.0 * 8 * 128 * seen);
  }

  void FullAttention(int64_t tiles) {
    const MutTensorView q = Tensor(DType::kF32, {tiles, 577, 16, 64});
    const MutTensorView k = Tensor(DType::kF32, {tiles, 577, 16, 64});
    const MutTensorView v = Tensor(DType::kF32, {tiles, 577, 16, 64});
    const MutTensorView out = Tensor(DType::kF32, {tiles, 577, 1024});
    Report(fmt::format("vit attention: {} tiles", tiles), 4.0 * static_cast<double>(q.bytes()),
           4.0 * static_cast<double>(tiles * 16 * 577 * 577 * 64), [&] {
             return d_.ops().FullAttention(d_.stream(),
                                           {.q = q, .k = k, .v = v, .scale = 0.125F, .out = out});
           });
  }

  void Norm(int64_t t) {
    const MutTensorView a = Tensor(DType::kF32, {t, kHidden});
    const MutTensorView b = Tensor(DType::kF32, {t, kHidden});
    const MutTensorView w = Tensor(DType::kBF16, {kHidden});
    const MutTensorView out = Tensor(DType::kF32, {t, kHidden});
    Report(fmt::format("add + rms norm: T={}", t), static_cast<double>(a.bytes() + b.bytes() + out.bytes()),
           0, [&] {
             return d_.ops().AddRmsNorm(d_.stream(), {.residual = a,
                                                      .branch = b,
                                                      .alpha = 3.5F,
                                                      .beta = 1,
                                                      .w = w,
                                                      .eps = 1e-5F,
                                                      .out = out,
                                                      .health = {}});
           });
  }

  Device& d_;
  const std::string only_;
  double copy_rate_ = 1;
  double product_rate_ = 1;
  std::vector<Buffer> buffers_;
  std::vector<Result> results_;
};

void WriteJson(const std::string& path, const Device& device, const Bench& bench) {
  std::ofstream out(path);
  out << fmt::format(
      "{{\"device\": \"{}\", \"copy_bytes_per_second\": {:.4e}, \"product_flops\": {:.4e}, \"cases\": [",
      device.Describe(), bench.copy_rate(), bench.product_rate());
  const char* separator = "\n";
  for (const Result& r : bench.results()) {
    out << separator
        << fmt::format(
               "{{\"name\": \"{}\", \"us\": {:.3f}, \"bytes\": {:.0f}, \"flops\": {:.0f}, \"of_copy\": "
               "{:.4f}}}",
               r.name, r.microseconds, r.bytes, r.flops,
               r.bytes / (1e-6 * r.microseconds) / bench.copy_rate());
    separator = ",\n";
  }
  out << "\n]}\n";
}

}  // namespace

int GpuBenchMain(int argc, char** argv) {
  std::string device_name = "cuda";
  std::string only;
  std::string json;
  DeviceOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const bool has_value = i + 1 < argc;
    if (flag == "--device" && has_value) {
      device_name = argv[++i];
    } else if (flag == "--only" && has_value) {
      only = argv[++i];
    } else if (flag == "--json" && has_value) {
      json = argv[++i];
    } else if (flag == "--own-products") {
      options.own_products = true;
    } else {
      std::fprintf(stderr, "usage: %s [--device cuda:N] [--only SUBSTRING] [--json FILE] [--own-products]\n",
                   argv[0]);
      return flag == "--help" ? 0 : 2;
    }
  }
  auto device = MakeDevice(device_name, options);
  if (!device.ok()) Die("device", device.status());
  std::printf("%s\n", (*device)->Describe().c_str());
  Bench bench(**device, only);
  bench.Run();
  if (!json.empty()) WriteJson(json, **device, bench);
  return 0;
}

}  // namespace fulger
