#include "tests/bench/timed_device.h"

#include <chrono>
#include <set>
#include <utility>

#include "tests/support/forwarding_device.h"

namespace fulger {
namespace {

double Number(int64_t n) { return static_cast<double>(n); }

class TimedOps final : public Ops {
 public:
  TimedOps(Ops& ops, OpTable* table) : ops_(ops), table_(*table) {}

  absl::Status Linear(Stream& s, const LinearArgs& a) override {
    const double flops = 2 * Number(a.x.dim(0) * a.w.elements());
    return Time(fmt::format("linear {}x{}", a.w.dim(0), a.w.dim(1)), Number(a.w.bytes() + a.w_scale.bytes()),
                flops, [&] { return ops_.Linear(s, a); });
  }
  absl::Status Moe(Stream& s, const MoeArgs& a) override {
    std::set<int32_t> touched;
    int64_t pairs = 0;
    for (int64_t i = 0; i < a.ids.elements(); ++i) {
      const int64_t e = a.ids.data<int32_t>()[i] - a.first_expert;
      if (e < 0 || e >= a.w1.dim(0)) continue;
      touched.insert(static_cast<int32_t>(e));
      ++pairs;
    }
    const double share = Number(static_cast<int64_t>(touched.size())) / Number(a.w1.dim(0));
    const double per_expert =
        Number(a.w1.elements() + a.w3.elements() + a.w2.elements()) / Number(a.w1.dim(0));
    const int64_t bytes = a.w1.bytes() + a.w3.bytes() + a.w2.bytes() + a.w1_scale.bytes() +
                          a.w3_scale.bytes() + a.w2_scale.bytes();
    return Time("experts", share * Number(bytes), 2 * Number(pairs) * per_expert,
                [&] { return ops_.Moe(s, a); });
  }
  absl::Status Router(Stream& s, const RouterArgs& a) override {
    return Time("router", Number(a.gate.bytes()), 2 * Number(a.x.dim(0) * a.gate.elements()),
                [&] { return ops_.Router(s, a); });
  }
  // The recurrent form's work, whatever the blocked one does: state updated and read for every token.
  absl::Status Lightning(Stream& s, const LightningArgs& a) override {
    const int64_t d = a.states.dim(3);
    const double state = Number(a.slopes.dim(0) * d * d);
    double bytes = 0, flops = 0;
    for (const LightningSegment& segment : a.segments) {
      bytes += 2 * 4 * state;
      flops += 4 * state * Number(segment.count);
    }
    return Time("lightning attention", bytes, flops, [&] { return ops_.Lightning(s, a); });
  }
  absl::Status PagedAttention(Stream& s, const PagedAttentionArgs& a) override {
    const int64_t kv_row =
        a.k_cache.dim(1) * a.k_cache.dim(3) * 2 * static_cast<int64_t>(ByteSize(a.k_cache.dtype()));
    double bytes = 0, flops = 0;
    for (const AttentionSegment& segment : a.segments) {
      bytes += Number(kv_row * (segment.position + segment.count));
      for (int64_t i = 1; i <= segment.count; ++i) {
        flops += 4 * Number(a.q.dim(1) * a.q.dim(2) * (segment.position + i));
      }
    }
    return Time("paged attention", bytes, flops, [&] { return ops_.PagedAttention(s, a); });
  }
  absl::Status Embedding(Stream& s, const EmbeddingArgs& a) override {
    const double row = Number(a.table.dim(1)) * Number(static_cast<int64_t>(ByteSize(a.table.dtype())));
    return Time("embedding", row * Number(a.ids.dim(0)), 0, [&] { return ops_.Embedding(s, a); });
  }
  absl::Status RmsNorm(Stream& s, const RmsNormArgs& a) override {
    return Time("norm", 0, 0, [&] { return ops_.RmsNorm(s, a); });
  }
  absl::Status AddRmsNorm(Stream& s, const AddRmsNormArgs& a) override {
    return Time("norm", 0, 0, [&] { return ops_.AddRmsNorm(s, a); });
  }
  absl::Status AddScaled(Stream& s, const AddScaledArgs& a) override {
    return Time("norm", 0, 0, [&] { return ops_.AddScaled(s, a); });
  }
  absl::Status LayerNorm(Stream& s, const LayerNormArgs& a) override {
    return Time("norm", 0, 0, [&] { return ops_.LayerNorm(s, a); });
  }
  absl::Status LightningGate(Stream& s, const LightningGateArgs& a) override {
    return Time("gate", 0, 0, [&] { return ops_.LightningGate(s, a); });
  }
  absl::Status ScaleByRms(Stream& s, const ScaleByRmsArgs& a) override {
    return Time("norm", 0, 0, [&] { return ops_.ScaleByRms(s, a); });
  }
  absl::Status RopeAndCache(Stream& s, const RopeAndCacheArgs& a) override {
    return Time("rope", 0, 0, [&] { return ops_.RopeAndCache(s, a); });
  }
  absl::Status FullAttention(Stream& s, const FullAttentionArgs& a) override {
    return Time("full attention", 0, 4 * Number(a.q.elements() * a.k.dim(1)),
                [&] { return ops_.FullAttention(s, a); });
  }
  absl::Status GatherRows(Stream& s, const GatherRowsArgs& a) override {
    return Time("rows", 0, 0, [&] { return ops_.GatherRows(s, a); });
  }
  absl::Status ScatterRows(Stream& s, const ScatterRowsArgs& a) override {
    return Time("rows", 0, 0, [&] { return ops_.ScatterRows(s, a); });
  }
  absl::Status Gelu(Stream& s, const GeluArgs& a) override {
    return Time("gelu", 0, 0, [&] { return ops_.Gelu(s, a); });
  }
  absl::Status Patchify(Stream& s, const PatchifyArgs& a) override {
    return Time("patches", 0, 0, [&] { return ops_.Patchify(s, a); });
  }
  absl::Status VitEmbed(Stream& s, const VitEmbedArgs& a) override {
    return Time("patches", 0, 0, [&] { return ops_.VitEmbed(s, a); });
  }

 private:
  template <typename F>
  absl::Status Time(std::string name, double bytes, double flops, F&& run) {
    const auto start = std::chrono::steady_clock::now();
    const absl::Status status = run();
    OpTotals& totals = table_[std::move(name)];
    ++totals.calls;
    totals.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    totals.bytes += bytes;
    totals.flops += flops;
    return status;
  }

  Ops& ops_;
  OpTable& table_;
};

class TimedDevice final : public ForwardingDevice {
 public:
  TimedDevice(std::unique_ptr<Device> device, OpTable* table)
      : ForwardingDevice(std::move(device)), ops_(ForwardingDevice::ops(), table) {}

  Ops& ops() override { return ops_; }

 private:
  TimedOps ops_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeTimedCpuDevice(const DeviceOptions& options, OpTable* table) {
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeDevice("cpu", options));
  return std::unique_ptr<Device>(new TimedDevice(std::move(device), table));
}

}  // namespace fulger
