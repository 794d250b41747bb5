#include "model/shards/rank_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace fulger {
namespace {

constexpr uint64_t kAlignment = 4096;
constexpr char kSumsTensor[] = "fulger.block_sums";

void AddTensor(RankTensor tensor, int64_t block_bytes, RankFileForm* form) {
  int64_t elements = 1;
  for (const int64_t d : tensor.shape) elements *= d;
  tensor.bytes = elements * static_cast<int64_t>(ByteSize(tensor.dtype));
  tensor.first_block = form->blocks;
  form->blocks += BlocksOf(tensor.bytes, block_bytes);
  form->tensors.push_back(std::move(tensor));
}

void AddSlice(const TensorSpec& spec, const TensorSlice& slice, DType stored, bool int8, int64_t block_bytes,
              RankFileForm* form) {
  std::vector<int64_t> shape = spec.shape;
  shape[0] = slice.rows.size();
  if (shape.size() > 1) shape[1] = slice.columns.size();
  RankTensor tensor;
  tensor.slice = slice;
  tensor.name = spec.name;
  tensor.dtype = int8 ? DType::kI8 : stored;
  tensor.shape = shape;
  AddTensor(tensor, block_bytes, form);
  if (!int8) return;
  tensor.name += "_scale";
  tensor.scale = true;
  tensor.dtype = DType::kF32;
  tensor.shape = {shape[0]};
  AddTensor(std::move(tensor), block_bytes, form);
}

// Its tensors would be left out where the rank's run of the vocabulary is empty.
bool IsEmptyVocabulary(const TensorSpec& spec, const RankPlan& rank) {
  if (rank.vision_only || rank.vocab.size() > 0) return false;
  return (spec.component == Component::kEmbedding && rank.first_stage) ||
         (spec.component == Component::kLmHead && rank.last_stage);
}

std::string Entry(std::string_view name, std::string_view dtype, const std::vector<int64_t>& shape,
                  uint64_t begin, uint64_t end) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name, dtype,
                     fmt::join(shape, ","), begin, end);
}

// Sets offsets, head and size, once all tensors are known.
void Finish(RankFileForm* form) {
  uint64_t at = static_cast<uint64_t>(form->blocks) * sizeof(BlockSum);
  std::string json = "{" + Entry(kSumsTensor, "U8", {form->blocks, sizeof(BlockSum)}, 0, at);
  for (RankTensor& tensor : form->tensors) {
    tensor.offset = at;
    at += static_cast<uint64_t>(tensor.bytes);
    json += "," + Entry(tensor.name, Name(tensor.dtype), tensor.shape, tensor.offset, at);
  }
  json += "}";
  constexpr uint64_t kLength = 8;
  const uint64_t head = (kLength + json.size() + kAlignment - 1) / kAlignment * kAlignment;
  json.resize(head - kLength, ' ');
  for (uint64_t i = 0; i < kLength; ++i) form->head += static_cast<char>(json.size() >> (8 * i) & 0xff);
  form->head += json;
  for (RankTensor& tensor : form->tensors) tensor.offset += head;
  form->bytes = head + at;
}

}  // namespace

RankFileForm MakeRankFileForm(const std::vector<TensorSpec>& table, const RankPlan& rank,
                              const std::vector<DType>& stored, int64_t block_bytes) {
  RankFileForm form;
  form.name = fmt::format("rank-{:05}.safetensors", rank.rank);
  const std::vector<TensorSlice> slices = RankTensors(table, rank);
  size_t next = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    const TensorSpec& spec = table[i];
    if (next < slices.size() && slices[next].tensor == i) {
      AddSlice(spec, slices[next], stored[i], HeldAsInt8(spec, rank), block_bytes, &form);
      ++next;
    } else if (IsEmptyVocabulary(spec, rank)) {
      AddSlice(spec, {i, {0, 0}, {0, spec.shape[1]}}, stored[i], false, block_bytes, &form);
    }
  }
  Finish(&form);
  return form;
}

absl::StatusOr<RankFile> RankFile::Open(const std::string& dir, RankFileForm form, int64_t block_bytes,
                                        const BlockSum& sum_of_sums) {
  ASSIGN_OR_RETURN(File file, File::Open(dir + "/" + form.name));
  if (file.size() != form.bytes) {
    return DataLoss("{}: expected {} bytes, found {}", file.path(), form.bytes, file.size());
  }
  std::string head(form.head.size(), '\0');
  RETURN_IF_ERROR(file.ReadAt(0, std::as_writable_bytes(std::span(head))));
  if (head != form.head) {
    const auto at = std::mismatch(head.begin(), head.end(), form.head.begin()).first - head.begin();
    return DataLoss(
        "{}: the header differs from what the layout and the checkpoint's types give, from byte {}",
        file.path(), at);
  }
  RankFile opened(std::move(file), std::move(form), block_bytes);
  opened.sums_.resize(static_cast<size_t>(opened.form_.blocks));
  const auto sums = std::as_writable_bytes(std::span(opened.sums_));
  RETURN_IF_ERROR(opened.file_.ReadAt(opened.form_.sum_offset(0), sums));
  RETURN_IF_ERROR(
      CheckBlock(opened.file_.path(), kSumsTensor, sums, opened.form_.sum_offset(0), sum_of_sums));
  return opened;
}

const RankTensor* RankFile::Find(size_t tensor, bool scale) const {
  const auto key = [](const RankTensor& t) { return std::pair(t.slice.tensor, t.scale); };
  const auto it = std::lower_bound(form_.tensors.begin(), form_.tensors.end(), std::pair(tensor, scale),
                                   [&](const RankTensor& t, const auto& want) { return key(t) < want; });
  return it != form_.tensors.end() && key(*it) == std::pair(tensor, scale) ? &*it : nullptr;
}

std::span<const BlockSum> RankFile::sums(const RankTensor& tensor) const {
  return std::span(sums_).subspan(static_cast<size_t>(tensor.first_block),
                                  static_cast<size_t>(BlocksOf(tensor.bytes, block_bytes_)));
}

absl::Status CheckBlock(const std::string& path, std::string_view tensor, std::span<const std::byte> bytes,
                        uint64_t offset, const BlockSum& expected) {
  const BlockSum found = SumOf(bytes);
  if (found == expected) return absl::OkStatus();
  return DataLoss(
      "{}: tensor {}: bytes {} to {} of the file: expected checksum {}, found {}: they are damaged; if "
      "another "
      "read says so too, remove the folder and make it again with fulger shard",
      path, tensor, offset, offset + bytes.size(), ToHex(expected), ToHex(found));
}

}  // namespace fulger
