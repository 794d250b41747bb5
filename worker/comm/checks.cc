#include "worker/comm/checks.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace fulger {

std::string JoinRanks(std::span<const int> ranks) {
  return fmt::format("{}", fmt::join(ranks.begin(), ranks.end(), ", "));
}

absl::Status CheckMessage(const Where& where, const TensorView& data) {
  if (data.contiguous()) return absl::OkStatus();
  return Internal("{}: expected a contiguous tensor, found {} with strides", where.ToString(),
                  data.ToString());
}

absl::Status CheckAllReduce(const Where& where, const TensorView& data) {
  if (data.dtype() != DType::kF32) {
    return Internal("{}: expected F32, found {}", where.ToString(), data.ToString());
  }
  return CheckMessage(where, data);
}

absl::Status CheckAllGather(const Where& where, const TensorView& in, const TensorView& out, int size) {
  RETURN_IF_ERROR(CheckMessage(where, in));
  RETURN_IF_ERROR(CheckMessage(where, out));
  if (out.bytes() == in.bytes() * size && in.dtype() == out.dtype()) return absl::OkStatus();
  return Internal("{}: expected the output to hold {} times the input {}, found {}", where.ToString(), size,
                  in.ToString(), out.ToString());
}

absl::Status CheckBroadcast(const Where& where, const TensorView& data, int root, int size) {
  if (root < 0 || root >= size) {
    return Internal("{}: expected a root in [0, {}), found {}", where.ToString(), size, root);
  }
  return CheckMessage(where, data);
}

absl::Status CheckMessageSize(const Where& where, size_t expected, size_t found) {
  if (expected == found) return absl::OkStatus();
  return Internal("{}: expected a message of {} bytes, found {}", where.ToString(), expected, found);
}

absl::Status CheckGroupMembers(std::string_view name, std::span<const int> ranks, int rank, int world) {
  if (name.empty()) return InvalidArgument("a group needs a name");
  if (ranks.empty()) return InvalidArgument("group {}: expected at least one rank", name);
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (ranks[i] < 0 || ranks[i] >= world || (i > 0 && ranks[i] <= ranks[i - 1])) {
      return InvalidArgument("group {}: expected ascending ranks in [0, {}), found {}", name, world,
                             JoinRanks(ranks));
    }
  }
  if (std::find(ranks.begin(), ranks.end(), rank) == ranks.end()) {
    return InvalidArgument("group {}: rank {} is no member of {}", name, rank, JoinRanks(ranks));
  }
  return absl::OkStatus();
}

absl::Status CheckLinkEnds(std::string_view name, int from, int to, int rank, int world) {
  if (name.empty()) return InvalidArgument("a link needs a name");
  if (from < 0 || from >= world || to < 0 || to >= world) {
    return InvalidArgument("link {}: expected ranks in [0, {}), found {} -> {}", name, world, from, to);
  }
  if (rank != from && rank != to) {
    return InvalidArgument("link {}: rank {} is no end of {} -> {}", name, rank, from, to);
  }
  return absl::OkStatus();
}

}  // namespace fulger
