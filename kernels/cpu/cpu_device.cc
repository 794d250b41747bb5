#include "kernels/cpu/cpu_device.h"

#include <sys/mman.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "kernels/cpu/cpu_ops.h"

namespace fulger {
namespace {

constexpr size_t kAlignment = 64;
// From this size on an allocation is worth huge pages: a matrix is read in strides.
constexpr size_t kHugePage = size_t{2} << 20;
// From here on it is worth asking first whether it fits: the kernel overcommits and would end the process
// later instead of refusing now.
constexpr size_t kLarge = size_t{16} << 20;

// The value after `key` in a "key : value" file such as /proc/cpuinfo; empty when absent.
std::string ProcValue(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return {};
}

size_t ProcBytes(std::string_view key) {  // of /proc/meminfo, which counts in kB; 0 when unknown
  return std::strtoull(ProcValue("/proc/meminfo", key).c_str(), nullptr, 10) * 1024;
}

absl::StatusOr<const cpu::Kernels*> ChooseKernels(const std::string& name) {
  struct Table {
    std::string_view name;
    const cpu::Kernels* kernels;
  };
  // The fastest first.
  const std::array<Table, 3> tables = {Table{"avx512", cpu::Avx512Kernels()},
                                       Table{"avx2", cpu::Avx2Kernels()},
                                       Table{"portable", &cpu::PortableKernels()}};
  std::string usable;
  for (const Table& table : tables) {
    if (table.kernels == nullptr) continue;
    if (name == "auto" || name == table.name) return table.kernels;
    usable += usable.empty() ? "" : ", ";
    usable += table.name;
  }
  for (const Table& table : tables) {
    if (name == table.name) {
      return FailedPrecondition("cpu: {} kernels: this processor or this build lacks them; it has {}", name,
                                usable);
    }
  }
  return InvalidArgument("cpu: kernels \"{}\": expected auto, avx512, avx2 or portable", name);
}

class CpuStream final : public Stream {
 public:
  absl::Status Synchronize() override { return absl::OkStatus(); }
};

class CpuDevice final : public Device {
 public:
  CpuDevice(int threads, const cpu::Kernels& kernels)
      : pool_(threads), kernels_(kernels), ops_(pool_, kernels) {}

  std::string name() const override { return "cpu"; }
  std::string Describe() const override {
    std::string model = ProcValue("/proc/cpuinfo", "model name");
    if (model.empty()) model = "unknown processor";
    return fmt::format("cpu: {}, {} thread{}, {} kernels, {:.1f} GiB of memory", model, pool_.threads(),
                       pool_.threads() == 1 ? "" : "s", kernels_.name,
                       static_cast<double>(ProcBytes("MemTotal")) / (1 << 30));
  }
  std::string Arithmetic() const override { return fmt::format("cpu {}", kernels_.arithmetic); }
  Stream& stream() override { return stream_; }
  Ops& ops() override { return ops_; }

  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    const size_t free_bytes = bytes >= kLarge ? ProcBytes("MemAvailable") : 0;
    void* p = nullptr;
    const bool too_large = free_bytes != 0 && bytes > free_bytes;
    if (too_large ||
        posix_memalign(&p, bytes >= kHugePage ? kHugePage : kAlignment, bytes == 0 ? 1 : bytes) != 0) {
      return ResourceExhausted("cpu: {} bytes asked for, {} bytes of memory available", bytes,
                               ProcBytes("MemAvailable"));
    }
    // Advice only: without huge pages everything still works, with more TLB misses.
    if (bytes >= kHugePage) (void)madvise(p, bytes, MADV_HUGEPAGE);
    return Buffer(p, bytes, &std::free);
  }
  absl::Status CopyToDevice(Stream& stream, const void* host, void* device, size_t bytes) override {
    return Copy(stream, host, device, bytes);
  }
  absl::Status CopyToHost(Stream& stream, const void* device, void* host, size_t bytes) override {
    return Copy(stream, device, host, bytes);
  }
  absl::Status Copy(Stream&, const void* from, void* to, size_t bytes) override {
    if (bytes > 0) std::memmove(to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status Zero(Stream&, void* device, size_t bytes) override {
    if (bytes > 0) std::memset(device, 0, bytes);
    return absl::OkStatus();
  }
  bool host_accessible() const override { return true; }

 private:
  CpuStream stream_;
  ComputePool pool_;
  const cpu::Kernels& kernels_;
  CpuOps ops_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const DeviceOptions& options) {
  ASSIGN_OR_RETURN(const cpu::Kernels* const kernels, ChooseKernels(options.kernels));
  return std::unique_ptr<Device>(
      new CpuDevice(options.threads > 0 ? options.threads : AvailableThreads(), *kernels));
}

}  // namespace fulger
