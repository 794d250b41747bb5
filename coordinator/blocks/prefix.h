// What makes two prefixes the same: the ids and, where ids are only placeholders, the pictures behind them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fulger {

// ids[position .. position + rows) are placeholders whose embeddings are the packed features `key`.
struct ImageRun {
  std::string key;
  int64_t position = 0;
  int64_t rows = 0;
  int64_t tiles = 1;  // that its encoding takes

  bool operator==(const ImageRun&) const = default;
};

// One position of a prefix: the token id, or for a placeholder 63 bits of its picture's key with the top bit
// set. Every picture has a fixed number of rows, so a run of equal symbols says which row each of them is.
// The keys themselves are compared as well where symbols match: see AnchorCache.
using Symbol = uint64_t;

// Appends the symbols of positions [out->size(), end).
void AppendSymbols(std::span<const int32_t> ids, std::span<const ImageRun> images, int64_t end,
                   std::vector<Symbol>* out);

}  // namespace fulger
