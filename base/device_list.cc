#include "base/device_list.h"

#include <charconv>

namespace fulger {

absl::StatusOr<DeviceList> ParseDeviceList(std::string_view spec) {
  if (spec == "cpu") return DeviceList{};
  DeviceList list{.gpu = true, .ordinals = {}};
  if (spec == "cuda") return list;
  constexpr std::string_view kPrefix = "cuda:";
  if (!spec.starts_with(kPrefix)) {
    return InvalidArgument("--device {}: expected cpu, cuda, or cuda:0,1,... (GPUs of a host by number)",
                           spec);
  }
  const char* at = spec.data() + kPrefix.size();
  const char* const end = spec.data() + spec.size();
  while (true) {
    int ordinal = -1;
    const auto [next, error] = std::from_chars(at, end, ordinal);
    if (error != std::errc() || ordinal < 0 || (next != end && *next != ',')) {
      return InvalidArgument("--device {}: expected numbers of GPUs with commas between them, as in cuda:0,1",
                             spec);
    }
    list.ordinals.push_back(ordinal);
    if (next == end) return list;
    at = next + 1;
  }
}

absl::StatusOr<std::string> DeviceAt(const DeviceList& list, int place, int ranks_per_device) {
  if (!list.gpu) return std::string("cpu");
  const int index = place / ranks_per_device;
  if (list.ordinals.empty()) return fmt::format("cuda:{}", index);
  const int named = static_cast<int>(list.ordinals.size());
  if (index >= named) {
    return InvalidArgument(
        "--device names {} GPU{}, room for {} rank{} of a host, and there is one more: name more, or let "
        "several ranks share a GPU with --ranks-per-device",
        named, named == 1 ? "" : "s", named * ranks_per_device, named * ranks_per_device == 1 ? "" : "s");
  }
  return fmt::format("cuda:{}", list.ordinals[static_cast<size_t>(index)]);
}

absl::StatusOr<std::vector<std::string>> DevicesAt(const DeviceList& list, int place, int count,
                                                   int ranks_per_device) {
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(std::string name, DeviceAt(list, place + i, ranks_per_device));
    names.push_back(std::move(name));
  }
  return names;
}

}  // namespace fulger
