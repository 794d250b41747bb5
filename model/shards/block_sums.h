// Checksums of what lies in a rank's file: one for each block of each tensor, so that readers check what they
// have just read, several at a time, and an error says where.
//
// XXH3-128 (xxHash): it finds damage, as fast as memory is read and without special instructions. It is no
// signature: whoever can write the files can write the checksums.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace fulger {

inline constexpr char kBlockSumName[] = "xxh3-128";
inline constexpr int64_t kBlockBytes = int64_t{4} << 20;

using BlockSum = std::array<std::byte, 16>;  // as xxhsum -H2 prints it

BlockSum SumOf(std::span<const std::byte> bytes);
std::string ToHex(const BlockSum& sum);

inline int64_t BlocksOf(int64_t bytes, int64_t block_bytes) {
  return (bytes + block_bytes - 1) / block_bytes;
}

// The sums of a tensor whose bytes come in order, in parts of any size.
class BlockSummer {
 public:
  explicit BlockSummer(int64_t block_bytes);
  BlockSummer(BlockSummer&&) noexcept;
  ~BlockSummer();

  void Update(std::span<const std::byte> bytes);
  // The last block may be shorter. Call once.
  std::vector<BlockSum> Finish();

 private:
  struct State;
  void EndBlock();

  const int64_t block_bytes_;
  int64_t in_block_ = 0;
  std::unique_ptr<State> state_;
  std::vector<BlockSum> sums_;
};

}  // namespace fulger
