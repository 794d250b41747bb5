// A device, and ops, that hand everything on to others. Those that change a part of it (their ops, a count of
// what passes) override that part.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "kernels/device/device.h"
#include "kernels/ops/ops.h"

namespace fulger {

class ForwardingDevice : public Device {
 public:
  explicit ForwardingDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  std::string name() const override { return device_->name(); }
  std::string Describe() const override { return device_->Describe(); }
  std::string Arithmetic() const override { return device_->Arithmetic(); }
  Stream& stream() override { return device_->stream(); }
  Ops& ops() override { return device_->ops(); }
  absl::StatusOr<Buffer> Allocate(size_t bytes) override { return device_->Allocate(bytes); }
  absl::Status CopyToDevice(Stream& s, const void* from, void* to, size_t n) override {
    return device_->CopyToDevice(s, from, to, n);
  }
  absl::Status CopyToHost(Stream& s, const void* from, void* to, size_t n) override {
    return device_->CopyToHost(s, from, to, n);
  }
  absl::Status Copy(Stream& s, const void* from, void* to, size_t n) override {
    return device_->Copy(s, from, to, n);
  }
  absl::Status Zero(Stream& s, void* to, size_t n) override { return device_->Zero(s, to, n); }
  bool host_accessible() const override { return device_->host_accessible(); }
  bool holds(const void* p) const override { return device_->holds(p); }

 private:
  std::unique_ptr<Device> device_;
};

class ForwardingOps : public Ops {
 public:
  explicit ForwardingOps(Ops& ops) : ops_(ops) {}

  absl::Status Linear(Stream& s, const LinearArgs& args) override { return ops_.Linear(s, args); }
  absl::Status RmsNorm(Stream& s, const RmsNormArgs& args) override { return ops_.RmsNorm(s, args); }
  absl::Status AddRmsNorm(Stream& s, const AddRmsNormArgs& args) override { return ops_.AddRmsNorm(s, args); }
  absl::Status AddScaled(Stream& s, const AddScaledArgs& args) override { return ops_.AddScaled(s, args); }
  absl::Status LayerNorm(Stream& s, const LayerNormArgs& args) override { return ops_.LayerNorm(s, args); }
  absl::Status Lightning(Stream& s, const LightningArgs& args) override { return ops_.Lightning(s, args); }
  absl::Status LightningGate(Stream& s, const LightningGateArgs& args) override {
    return ops_.LightningGate(s, args);
  }
  absl::Status ScaleByRms(Stream& s, const ScaleByRmsArgs& args) override { return ops_.ScaleByRms(s, args); }
  absl::Status RopeAndCache(Stream& s, const RopeAndCacheArgs& args) override {
    return ops_.RopeAndCache(s, args);
  }
  absl::Status PagedAttention(Stream& s, const PagedAttentionArgs& args) override {
    return ops_.PagedAttention(s, args);
  }
  absl::Status FullAttention(Stream& s, const FullAttentionArgs& args) override {
    return ops_.FullAttention(s, args);
  }
  absl::Status Router(Stream& s, const RouterArgs& args) override { return ops_.Router(s, args); }
  absl::Status Moe(Stream& s, const MoeArgs& args) override { return ops_.Moe(s, args); }
  absl::Status Embedding(Stream& s, const EmbeddingArgs& args) override { return ops_.Embedding(s, args); }
  absl::Status GatherRows(Stream& s, const GatherRowsArgs& args) override { return ops_.GatherRows(s, args); }
  absl::Status ScatterRows(Stream& s, const ScatterRowsArgs& args) override {
    return ops_.ScatterRows(s, args);
  }
  absl::Status Gelu(Stream& s, const GeluArgs& args) override { return ops_.Gelu(s, args); }
  absl::Status Patchify(Stream& s, const PatchifyArgs& args) override { return ops_.Patchify(s, args); }
  absl::Status VitEmbed(Stream& s, const VitEmbedArgs& args) override { return ops_.VitEmbed(s, args); }

 private:
  Ops& ops_;
};

}  // namespace fulger
