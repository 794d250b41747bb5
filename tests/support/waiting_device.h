// A device whose ops only wait: a fixed time per layer, and nothing is computed. Shows how well stages
// overlap, whatever the machine's speed.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "kernels/device/device.h"
#include "kernels/ops/ops.h"
#include "tests/support/forwarding_device.h"

namespace fulger {

class WaitingOps final : public Ops {
 public:
  WaitingOps(std::chrono::microseconds per_layer, std::atomic<int64_t>* waited)
      : per_layer_(per_layer), waited_(waited) {}

  // Once per layer: the wait that stands for the layer's work.
  absl::Status Moe(Stream&, const MoeArgs&) override {
    const auto start = std::chrono::steady_clock::now();
    std::this_thread::sleep_for(per_layer_);
    *waited_ += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
    return absl::OkStatus();
  }
  absl::Status Linear(Stream&, const LinearArgs&) override { return absl::OkStatus(); }
  absl::Status RmsNorm(Stream&, const RmsNormArgs&) override { return absl::OkStatus(); }
  absl::Status AddRmsNorm(Stream&, const AddRmsNormArgs&) override { return absl::OkStatus(); }
  absl::Status AddScaled(Stream&, const AddScaledArgs&) override { return absl::OkStatus(); }
  absl::Status LayerNorm(Stream&, const LayerNormArgs&) override { return absl::OkStatus(); }
  absl::Status Lightning(Stream&, const LightningArgs&) override { return absl::OkStatus(); }
  absl::Status LightningGate(Stream&, const LightningGateArgs&) override { return absl::OkStatus(); }
  absl::Status ScaleByRms(Stream&, const ScaleByRmsArgs&) override { return absl::OkStatus(); }
  absl::Status RopeAndCache(Stream&, const RopeAndCacheArgs&) override { return absl::OkStatus(); }
  absl::Status PagedAttention(Stream&, const PagedAttentionArgs&) override { return absl::OkStatus(); }
  absl::Status FullAttention(Stream&, const FullAttentionArgs&) override { return absl::OkStatus(); }
  absl::Status Router(Stream&, const RouterArgs&) override { return absl::OkStatus(); }
  absl::Status Embedding(Stream&, const EmbeddingArgs&) override { return absl::OkStatus(); }
  absl::Status GatherRows(Stream&, const GatherRowsArgs&) override { return absl::OkStatus(); }
  absl::Status ScatterRows(Stream&, const ScatterRowsArgs&) override { return absl::OkStatus(); }
  absl::Status Gelu(Stream&, const GeluArgs&) override { return absl::OkStatus(); }
  absl::Status Patchify(Stream&, const PatchifyArgs&) override { return absl::OkStatus(); }
  absl::Status VitEmbed(Stream&, const VitEmbedArgs&) override { return absl::OkStatus(); }

 private:
  std::chrono::microseconds per_layer_;
  std::atomic<int64_t>* waited_;
};

// The CPU device with its ops replaced.
class WaitingDevice final : public ForwardingDevice {
 public:
  // Adds the time that its waits really took, in ns, to `waited`, which outlives it.
  static absl::StatusOr<std::unique_ptr<Device>> Make(std::chrono::microseconds per_layer,
                                                      std::atomic<int64_t>* waited) {
    ASSIGN_OR_RETURN(std::unique_ptr<Device> cpu, MakeDevice("cpu", DeviceOptions{.threads = 1}));
    return std::unique_ptr<Device>(new WaitingDevice(std::move(cpu), per_layer, waited));
  }

  std::string name() const override { return "waiting"; }
  std::string Describe() const override { return "ops only wait"; }
  std::string Arithmetic() const override { return "none"; }
  Ops& ops() override { return ops_; }

 private:
  WaitingDevice(std::unique_ptr<Device> cpu, std::chrono::microseconds per_layer,
                std::atomic<int64_t>* waited)
      : ForwardingDevice(std::move(cpu)), ops_(per_layer, waited) {}
  WaitingOps ops_;
};

}  // namespace fulger
