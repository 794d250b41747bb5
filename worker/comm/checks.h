// What every fabric says of an operation in its messages, and the checks of arguments that they share.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "kernels/tensor/tensor_view.h"

namespace fulger {

// Names an operation for messages; a view, valid while the call runs.
struct Where {
  std::string_view kind;       // "group", "link"
  std::string_view name;       // of the group or link
  std::string_view operation;  // "all-reduce"
  std::string ToString() const { return fmt::format("{} {}: {}", kind, name, operation); }
};

// INTERNAL, since sizes and types come from our own plan.
absl::Status CheckAllReduce(const Where& where, const TensorView& data);
absl::Status CheckAllGather(const Where& where, const TensorView& in, const TensorView& out, int size);
absl::Status CheckBroadcast(const Where& where, const TensorView& data, int root, int size);
absl::Status CheckMessage(const Where& where, const TensorView& data);
absl::Status CheckMessageSize(const Where& where, size_t expected, size_t found);

// `ranks` are ascending, within [0, world) and hold `rank`; a name is given.
absl::Status CheckGroupMembers(std::string_view name, std::span<const int> ranks, int rank, int world);
absl::Status CheckLinkEnds(std::string_view name, int from, int to, int rank, int world);

// "1, 2, 5"
std::string JoinRanks(std::span<const int> ranks);

}  // namespace fulger
