// Devices for tests: plain memory, either open to the host or reachable only through
// copies.
#pragma once

#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "base/check.h"
#include "kernels/device/device.h"

namespace fulger::testing_support {

class MemoryDevice final : public Device {
 public:
  explicit MemoryDevice(bool host_accessible) : host_accessible_(host_accessible) {}

  std::string name() const override { return "test"; }
  std::string Describe() const override { return "memory of the test"; }
  std::string Arithmetic() const override { return "none"; }
  Stream& stream() override { return stream_; }
  Ops& ops() override {
    FULGER_CHECK(false, "loading computes nothing");
    std::abort();
  }
  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    CheckThread();
    if (allocated_ + bytes > limit) {
      return ResourceExhausted("{} bytes asked for, {} free", bytes, limit - allocated_);
    }
    allocated_ += bytes;
    void* const memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    std::memset(memory, 0xee, bytes);  // a part that is never written shows
    return Buffer(memory, bytes, std::free);
  }
  absl::Status CopyToDevice(Stream&, const void* host, void* device, size_t bytes) override {
    CheckThread();
    FULGER_CHECK(!host_accessible_, "a copy that could be skipped");
    if (copies_before_failure-- == 0) return Unavailable("the device fell off the bus");
    std::memcpy(device, host, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyToHost(Stream&, const void* device, void* host, size_t bytes) override {
    std::memcpy(host, device, bytes);
    return absl::OkStatus();
  }
  absl::Status Copy(Stream&, const void* from, void* to, size_t bytes) override {
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status Zero(Stream&, void* device, size_t bytes) override {
    std::memset(device, 0, bytes);
    return absl::OkStatus();
  }
  bool host_accessible() const override { return host_accessible_; }

  size_t limit = SIZE_MAX;
  int copies_before_failure = -1;  // negative: never

 private:
  class NullStream final : public Stream {
   public:
    absl::Status Synchronize() override { return absl::OkStatus(); }
  };
  // The contract of a device: one thread.
  void CheckThread() const { FULGER_CHECK(std::this_thread::get_id() == owner_); }

  const bool host_accessible_;
  const std::thread::id owner_ = std::this_thread::get_id();
  size_t allocated_ = 0;
  NullStream stream_;
};

}  // namespace fulger::testing_support
