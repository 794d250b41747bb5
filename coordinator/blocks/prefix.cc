#include "coordinator/blocks/prefix.h"

#include <algorithm>
#include <cstring>

namespace fulger {
namespace {

Symbol PictureSymbol(const std::string& key) {
  uint64_t bits = 0;
  std::memcpy(&bits, key.data(), std::min(key.size(), sizeof(bits)));
  return bits | (uint64_t{1} << 63);
}

}  // namespace

void AppendSymbols(std::span<const int32_t> ids, std::span<const ImageRun> images, int64_t end,
                   std::vector<Symbol>* out) {
  const auto begin = static_cast<int64_t>(out->size());
  for (int64_t i = begin; i < end; ++i) {
    out->push_back(static_cast<uint32_t>(ids[static_cast<size_t>(i)]));
  }
  for (const ImageRun& image : images) {
    const int64_t first = std::max(image.position, begin);
    const int64_t last = std::min(image.position + image.rows, end);
    if (first < last) std::fill(out->begin() + first, out->begin() + last, PictureSymbol(image.key));
  }
}

}  // namespace fulger
