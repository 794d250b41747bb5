#include "model/shards/block_sums.h"

#include <fmt/format.h>

#include <algorithm>

// The library's own way to be inlined: its loops are then compiled for this one use.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"

namespace fulger {
namespace {

BlockSum ToSum(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  BlockSum sum;
  static_assert(sizeof(canonical.digest) == sizeof(sum));
  std::copy_n(reinterpret_cast<const std::byte*>(canonical.digest), sum.size(), sum.begin());
  return sum;
}

}  // namespace

struct BlockSummer::State {
  XXH3_state_t xxh;
};

BlockSum SumOf(std::span<const std::byte> bytes) { return ToSum(XXH3_128bits(bytes.data(), bytes.size())); }

std::string ToHex(const BlockSum& sum) {
  std::string out;
  for (const std::byte b : sum) out += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return out;
}

BlockSummer::BlockSummer(int64_t block_bytes) : block_bytes_(block_bytes), state_(std::make_unique<State>()) {
  FULGER_CHECK(block_bytes > 0 && XXH3_128bits_reset(&state_->xxh) == XXH_OK);
}
BlockSummer::BlockSummer(BlockSummer&&) noexcept = default;
BlockSummer::~BlockSummer() = default;

void BlockSummer::Update(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto take = std::min(bytes.size(), static_cast<size_t>(block_bytes_ - in_block_));
    FULGER_CHECK(XXH3_128bits_update(&state_->xxh, bytes.data(), take) == XXH_OK);
    in_block_ += static_cast<int64_t>(take);
    bytes = bytes.subspan(take);
    if (in_block_ == block_bytes_) EndBlock();
  }
}

void BlockSummer::EndBlock() {
  sums_.push_back(ToSum(XXH3_128bits_digest(&state_->xxh)));
  FULGER_CHECK(XXH3_128bits_reset(&state_->xxh) == XXH_OK);
  in_block_ = 0;
}

std::vector<BlockSum> BlockSummer::Finish() {
  if (in_block_ > 0) EndBlock();
  return std::move(sums_);
}

}  // namespace fulger
