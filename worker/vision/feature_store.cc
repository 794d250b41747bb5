#include "worker/vision/feature_store.h"

#include <cmath>
#include <utility>
#include <vector>

#include "model/picture/grid.h"
#include "worker/vision/packing.h"

namespace fulger {
namespace {

std::string Hex(const std::string& key) {
  std::string text;
  for (size_t i = 0; i < key.size() && i < 8; ++i)
    text += fmt::format("{:02x}", static_cast<unsigned char>(key[i]));
  return text;
}

}  // namespace

absl::StatusOr<ImageGrid> FeatureStore::CheckPicture(const PictureTiles& picture) const {
  ASSIGN_OR_RETURN(const ImageGrid grid, SelectGrid({.height = static_cast<int>(picture.height),
                                                     .width = static_cast<int>(picture.width)},
                                                    processor_));
  const int64_t side = config_.vision->image_size;
  if (picture.tiles != grid.tile_count()) {
    return InvalidArgument("picture {} of {}x{}: expected {} tiles, found {}", Hex(picture.key),
                           picture.height, picture.width, grid.tile_count(), picture.tiles);
  }
  const int64_t expected = picture.tiles * side * side * 3;
  if (static_cast<int64_t>(picture.pixels.size()) != expected) {
    return InvalidArgument("picture {}: expected {} bytes of pixels, found {}", Hex(picture.key), expected,
                           picture.pixels.size());
  }
  return grid;
}

absl::StatusOr<EncodedPictures> FeatureStore::Encode(ExecContext& ctx, std::span<const Picture> pictures) {
  const int64_t side = config_.vision->image_size;
  EncodedPictures encoded;
  std::vector<Member> members;
  std::vector<const char*> tiles;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const PictureTiles& picture = *pictures[i];
    if (const auto held = pictures_.find(picture.key); held != pictures_.end()) {
      encoded.rows.emplace_back(held->second.rows.dim(0));
      continue;
    }
    const auto grid = CheckPicture(picture);
    if (!grid.ok()) {
      encoded.rows.emplace_back(grid.status());
      continue;
    }
    encoded.rows.emplace_back(0);
    members.push_back({.index = i, .grid = *grid, .first = static_cast<int64_t>(tiles.size())});
    for (int64_t t = 0; t < picture.tiles; ++t) tiles.push_back(picture.pixels.data() + t * side * side * 3);
  }
  if (members.empty()) return encoded;

  const int64_t ranks = ctx.stage.size();
  const Deal deal{.ranks = ranks, .share = (static_cast<int64_t>(tiles.size()) + ranks - 1) / ranks};
  ASSIGN_OR_RETURN(const Buffer features, EncodeTiles(ctx, deal, tiles, &encoded.tiles));
  const TensorView rows(features.data(), DType::kF32,
                        {deal.ranks * deal.share * config_.vision->patches(), config_.text.hidden});
  for (const Member& member : members) {
    const PictureTiles& picture = *pictures[member.index];
    auto packed = Pack(ctx, picture, member, deal, rows);
    if (packed.ok()) {
      encoded.rows[member.index] = packed->rows.dim(0);
      pictures_.emplace(picture.key, *std::move(packed));
    } else if (packed.status().code() == absl::StatusCode::kDataLoss) {
      encoded.rows[member.index] = packed.status();
    } else {
      return packed.status();
    }
  }
  return encoded;
}

absl::StatusOr<Buffer> FeatureStore::EncodeTiles(ExecContext& ctx, const Deal& deal,
                                                 std::span<const char* const> tiles, int64_t* own) {
  const int64_t side = config_.vision->image_size;
  const int64_t patches = config_.vision->patches();
  const int64_t hidden = config_.text.hidden;
  const int64_t mine = ctx.stage.rank();
  const int64_t tile_bytes = side * side * 3;

  ASSIGN_OR_RETURN(Buffer pixels, ctx.device.Allocate(static_cast<size_t>(deal.share * tile_bytes)));
  ASSIGN_OR_RETURN(
      Buffer features,
      ctx.device.Allocate(static_cast<size_t>(deal.ranks * deal.share * patches * hidden) * sizeof(float)));
  int64_t count = 0;
  for (auto t = mine; t < static_cast<int64_t>(tiles.size()); t += deal.ranks, ++count) {
    RETURN_IF_ERROR(ctx.device.CopyToDevice(ctx.stream, tiles[static_cast<size_t>(t)],
                                            static_cast<char*>(pixels.data()) + count * tile_bytes,
                                            static_cast<size_t>(tile_bytes)));
  }
  *own = count;
  const MutTensorView all(features.data(), DType::kF32, {deal.ranks * deal.share * patches, hidden});
  const MutTensorView part = all.Rows(mine * deal.share * patches, deal.share * patches);
  RETURN_IF_ERROR(tower_->Encode(ctx, TensorView(pixels.data(), DType::kU8, {count, side, side, 3}),
                                 part.Rows(0, count * patches)));
  if (deal.ranks == 1) return features;

  // Padding tiles travel too: give them defined bytes.
  const MutTensorView rest = part.Rows(count * patches, (deal.share - count) * patches);
  RETURN_IF_ERROR(ctx.device.Zero(ctx.stream, rest.mut_raw(), static_cast<size_t>(rest.bytes())));
  ctx.activity.Set("gathering picture features");
  const auto part_bytes = static_cast<size_t>(part.bytes());
  ASSIGN_OR_RETURN(Buffer sent, ctx.device.Allocate(part_bytes));
  RETURN_IF_ERROR(ctx.device.Copy(ctx.stream, part.raw(), sent.data(), part_bytes));
  RETURN_IF_ERROR(ctx.stage.AllGather(
      ctx.stream, TensorView(sent.data(), DType::kF32, {deal.share * patches, hidden}), all));
  return features;
}

absl::StatusOr<FeatureStore::Packed> FeatureStore::Pack(ExecContext& ctx, const PictureTiles& picture,
                                                        const Member& member, const Deal& deal,
                                                        const TensorView& features) {
  const int64_t hidden = config_.text.hidden;
  const int64_t patches = config_.vision->patches();
  const std::vector<int32_t> index =
      PackingIndex(member.grid, [&](int64_t t) { return deal.Place(member.first + t) * patches; });
  const auto rows = static_cast<int64_t>(index.size());
  Packed packed;
  ASSIGN_OR_RETURN(packed.buffer, ctx.device.Allocate(static_cast<size_t>(rows * hidden) * sizeof(float)));
  const MutTensorView out(packed.buffer.data(), DType::kF32, {rows, hidden});
  ASSIGN_OR_RETURN(Buffer device_index, ctx.device.Allocate(index.size() * sizeof(int32_t)));
  RETURN_IF_ERROR(
      ctx.device.CopyToDevice(ctx.stream, index.data(), device_index.data(), index.size() * sizeof(int32_t)));
  RETURN_IF_ERROR(
      ctx.ops.GatherRows(ctx.stream, {.src = features,
                                      .index = TensorView(device_index.data(), DType::kI32, {rows}),
                                      .fill = tower_->newline(),
                                      .out = out}));
  packed.rows = out;

  std::vector<float> host(static_cast<size_t>(rows * hidden));
  RETURN_IF_ERROR(ctx.device.CopyToHost(ctx.stream, out.raw(), host.data(), host.size() * sizeof(float)));
  RETURN_IF_ERROR(ctx.stream.Synchronize());
  for (size_t i = 0; i < host.size(); ++i) {
    if (std::isfinite(host[i])) continue;
    const size_t row = i / static_cast<size_t>(hidden);
    ASSIGN_OR_RETURN(const std::string part, BadPart(ctx, picture, member.grid, row));
    return DataLoss("{}: NaN or infinity in weights or activations (feature row {} of picture {})", part, row,
                    Hex(picture.key));
  }
  return packed;
}

absl::StatusOr<std::string> FeatureStore::BadPart(ExecContext& ctx, const PictureTiles& picture,
                                                  const ImageGrid& grid, size_t row) const {
  const int64_t side = config_.vision->image_size;
  const int64_t patches = config_.vision->patches();
  const int32_t patch = PackingIndex(grid, [&](int64_t t) { return t * patches; })[row];
  if (patch < 0) return "image_newline";
  const int64_t tile_bytes = side * side * 3;
  ASSIGN_OR_RETURN(const Buffer tile, ctx.device.Allocate(static_cast<size_t>(tile_bytes)));
  RETURN_IF_ERROR(ctx.device.CopyToDevice(ctx.stream, picture.pixels.data() + patch / patches * tile_bytes,
                                          tile.data(), static_cast<size_t>(tile_bytes)));
  ASSIGN_OR_RETURN(const std::string part,
                   tower_->FirstBadPart(ctx, TensorView(tile.data(), DType::kU8, {1, side, side, 3})));
  return part.empty() ? "vision tower, though a second pass over the tile was clean" : part;
}

absl::StatusOr<TensorView> FeatureStore::Rows(const std::string& key, int64_t first, int64_t count) const {
  const auto it = pictures_.find(key);
  if (it == pictures_.end()) return NotFound("no features are held for picture {}", Hex(key));
  const TensorView& all = it->second.rows;
  if (first < 0 || count < 0 || first + count > all.dim(0)) {
    return Internal("feature rows {}..{} of a picture with {}", first, first + count, all.dim(0));
  }
  return all.Rows(first, count);
}

int64_t FeatureStore::bytes() const {
  int64_t total = 0;
  for (const auto& [key, picture] : pictures_) total += static_cast<int64_t>(picture.buffer.bytes());
  return total;
}

}  // namespace fulger
