#include "coordinator/frontend/image_preparer.h"

#include "base/check.h"
#include "base/sha256.h"
#include "coordinator/image/tiles.h"

namespace fulger {
namespace {

int HexDigit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

// The engine and the workers name pictures by the hash's 32 bytes.
std::string BytesOfHex(std::string_view hex) {
  FULGER_CHECK(hex.size() == 64, "a SHA-256 has 64 digits, not {}", hex.size());
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(HexDigit(hex[i]) * 16 + HexDigit(hex[i + 1])));
  }
  return bytes;
}

}  // namespace

absl::StatusOr<int> ImagePreparer::CountTokens(std::string_view encoded) const {
  ASSIGN_OR_RETURN(const ImageHeader header, ProbeImage(encoded, limits_));
  ASSIGN_OR_RETURN(const ImageGrid grid, SelectGrid(header.size(), config_));
  return grid.token_count();
}

absl::StatusOr<std::shared_ptr<const PreparedImage>> ImagePreparer::Prepare(std::string_view encoded) {
  const std::string hash = Sha256Hex(encoded);
  if (auto known = Find(hash)) return known;
  ASSIGN_OR_RETURN(const RgbImage rgb, DecodeImage(encoded, limits_));
  ASSIGN_OR_RETURN(ImageTiles tiles, MakeTiles(rgb, config_));
  auto image = std::make_shared<PreparedImage>();
  image->key = BytesOfHex(tiles.key);
  image->tile_count = tiles.grid.tile_count();
  image->height = tiles.grid.original.height;
  image->width = tiles.grid.original.width;
  image->tokens = tiles.grid.token_count();
  image->tiles = std::move(tiles.pixels);
  Remember(hash, image);
  return image;
}

std::shared_ptr<const PreparedImage> ImagePreparer::Find(const std::string& hash) {
  std::lock_guard lock(mu_);
  const auto found = index_.find(hash);
  if (found == index_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found->second);
  return found->second->second;
}

void ImagePreparer::Remember(const std::string& hash, const std::shared_ptr<const PreparedImage>& image) {
  const auto size = static_cast<int64_t>(image->tiles.size());
  if (size > cache_bytes_) return;
  std::lock_guard lock(mu_);
  if (index_.contains(hash)) return;
  recent_.emplace_front(hash, image);
  index_[hash] = recent_.begin();
  held_ += size;
  while (held_ > cache_bytes_) {
    held_ -= static_cast<int64_t>(recent_.back().second->tiles.size());
    index_.erase(recent_.back().first);
    recent_.pop_back();
  }
}

}  // namespace fulger
