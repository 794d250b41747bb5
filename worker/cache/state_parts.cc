#include "worker/cache/state_parts.h"

#include <algorithm>

#include "base/check.h"

namespace fulger {

absl::StatusOr<StateParts> StateParts::Of(const KvCache& kv, const LightningStates& states, int32_t slot,
                                          std::span<const int32_t> blocks) {
  StateParts result;
  RETURN_IF_ERROR(kv.AppendParts(blocks, &result.parts_));
  RETURN_IF_ERROR(states.AppendParts(slot, &result.parts_));
  for (const MutTensorView& part : result.parts_) result.bytes_ += part.bytes();
  return result;
}

absl::Status StateParts::CopyOut(Device& device, size_t piece, const Sink& sink) const {
  std::vector<std::byte> host(std::min(piece, static_cast<size_t>(bytes_)));
  size_t filled = 0;
  const auto flush = [&]() -> absl::Status {
    RETURN_IF_ERROR(device.stream().Synchronize());
    return sink(std::span(host).first(std::exchange(filled, 0)));
  };
  for (const MutTensorView& part : parts_) {
    const auto size = static_cast<size_t>(part.bytes());
    for (size_t done = 0; done < size;) {
      const size_t count = std::min(size - done, host.size() - filled);
      RETURN_IF_ERROR(device.CopyToHost(device.stream(), static_cast<const std::byte*>(part.raw()) + done,
                                        host.data() + filled, count));
      done += count;
      filled += count;
      if (filled == host.size()) RETURN_IF_ERROR(flush());
    }
  }
  return filled > 0 ? flush() : absl::OkStatus();
}

absl::Status StateParts::CopyIn(Device& device, std::span<const std::byte> host) const {
  FULGER_CHECK(std::ssize(host) == bytes_, "{} bytes for a state of {}", host.size(), bytes_);
  for (const MutTensorView& part : parts_) {
    const auto size = static_cast<size_t>(part.bytes());
    RETURN_IF_ERROR(device.CopyToDevice(device.stream(), host.data(), part.mut_raw(), size));
    host = host.subspan(size);
  }
  return absl::OkStatus();
}

}  // namespace fulger
