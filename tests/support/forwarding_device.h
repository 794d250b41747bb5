// A device that hands everything on to another one. Those that change a part of it (their ops, a count of
// what passes) override that part.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "kernels/device/device.h"

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

}  // namespace fulger
