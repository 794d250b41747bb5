#include "model/shards/slice_writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include "model/checkpoint/quantize.h"

namespace fulger {
namespace {

// A tensor as rows of elements: what follows its second dimension lies within the row.
struct Rows {
  int64_t count = 0, elements = 0;  // rows, and elements of each
  int64_t inner = 1;                // elements of a column
  int64_t element_bytes = 0;
  int64_t bytes() const { return elements * element_bytes; }
};

Rows RowsOf(const TensorSpec& spec, DType stored) {
  Rows rows{.count = spec.shape[0], .elements = 1, .inner = 1};
  for (size_t d = 1; d < spec.shape.size(); ++d) rows.elements *= spec.shape[d];
  for (size_t d = 2; d < spec.shape.size(); ++d) rows.inner *= spec.shape[d];
  rows.element_bytes = static_cast<int64_t>(ByteSize(stored));
  return rows;
}

}  // namespace

// One rank's slice, and how far it is written.
struct SliceWriter::Part {
  const RankOutput* output = nullptr;
  const RankTensor* tensor = nullptr;
  const RankTensor* scale = nullptr;  // null: not int8
  BlockSummer sums, scale_sums;
  int64_t written = 0, scales_written = 0;

  absl::Status Append(std::span<const std::byte> bytes) {
    sums.Update(bytes);
    const uint64_t at = tensor->offset + static_cast<uint64_t>(written);
    written += static_cast<int64_t>(bytes.size());
    return output->file.WriteAt(at, bytes);
  }
  absl::Status AppendScales(std::span<const std::byte> bytes) {
    scale_sums.Update(bytes);
    const uint64_t at = scale->offset + static_cast<uint64_t>(scales_written);
    scales_written += static_cast<int64_t>(bytes.size());
    return output->file.WriteAt(at, bytes);
  }
  absl::Status WriteSums(const RankTensor& of, const std::vector<BlockSum>& finished) const {
    return output->file.WriteAt(output->form.sum_offset(of.first_block), std::as_bytes(std::span(finished)));
  }
  absl::Status Finish() {
    RETURN_IF_ERROR(WriteSums(*tensor, sums.Finish()));
    return scale == nullptr ? absl::OkStatus() : WriteSums(*scale, scale_sums.Finish());
  }
};

struct SliceWriter::Buffers {
  std::vector<std::byte> raw, cut;
  std::vector<float> scales;  // of the chunk's rows
};

SliceWriter::SliceWriter(const Checkpoint& checkpoint, const std::vector<RankOutput>& outputs,
                         int64_t block_bytes, int64_t chunk_bytes, std::function<void(int64_t)> read)
    : checkpoint_(checkpoint),
      outputs_(outputs),
      block_bytes_(block_bytes),
      chunk_bytes_(chunk_bytes),
      read_(std::move(read)),
      parts_of_(checkpoint.table().size()) {
  for (size_t o = 0; o < outputs.size(); ++o) {
    const std::vector<RankTensor>& tensors = outputs[o].form.tensors;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (!tensors[i].scale && tensors[i].bytes > 0) parts_of_[tensors[i].slice.tensor].emplace_back(o, i);
    }
  }
}

int64_t SliceWriter::BytesToRead(size_t tensor) const {
  if (parts_of_[tensor].empty()) return 0;
  const TensorSpec& spec = checkpoint_.table()[tensor];
  return spec.elements() * static_cast<int64_t>(ByteSize(checkpoint_.source(tensor).dtype));
}

absl::Status SliceWriter::Write(size_t tensor) const {
  std::vector<Part> parts;
  for (const auto& [o, i] : parts_of_[tensor]) {
    const std::vector<RankTensor>& tensors = outputs_[o].form.tensors;
    const bool int8 = i + 1 < tensors.size() && tensors[i + 1].scale;
    parts.push_back({.output = &outputs_[o],
                     .tensor = &tensors[i],
                     .scale = int8 ? &tensors[i + 1] : nullptr,
                     .sums = BlockSummer(block_bytes_),
                     .scale_sums = BlockSummer(block_bytes_)});
  }
  if (parts.empty()) return absl::OkStatus();
  const Rows rows = RowsOf(checkpoint_.table()[tensor], checkpoint_.source(tensor).dtype);
  const int64_t at_a_time = std::max<int64_t>(1, chunk_bytes_ / rows.bytes());
  Buffers buffers;
  for (int64_t begin = 0; begin < rows.count; begin += at_a_time) {
    RETURN_IF_ERROR(WriteChunk(tensor, begin, std::min(rows.count, begin + at_a_time), buffers, parts));
  }
  for (Part& part : parts) RETURN_IF_ERROR(part.Finish());
  return absl::OkStatus();
}

absl::Status SliceWriter::WriteChunk(size_t tensor, int64_t begin, int64_t end, Buffers& buffers,
                                     std::vector<Part>& parts) const {
  const TensorSpec& spec = checkpoint_.table()[tensor];
  const TensorSource& source = checkpoint_.source(tensor);
  const File& file = checkpoint_.files()[static_cast<size_t>(source.file)].file();
  const Rows rows = RowsOf(spec, source.dtype);
  buffers.raw.resize(static_cast<size_t>((end - begin) * rows.bytes()));
  RETURN_IF_ERROR(
      Annotate(file.ReadAt(source.offset + static_cast<uint64_t>(begin * rows.bytes()), buffers.raw),
               "tensor " + spec.name));
  // Scales are those of uncut rows, so that the layout does not change the answer.
  if (parts[0].scale != nullptr) {
    buffers.scales.resize(static_cast<size_t>(end - begin));
    for (int64_t r = begin; r < end; ++r) {
      const float largest =
          LargestMagnitude(buffers.raw.data() + (r - begin) * rows.bytes(), source.dtype, rows.elements);
      if (!std::isfinite(largest)) {
        return DataLoss("tensor {}: {}: expected finite numbers to make int8 of, row {} holds {}", spec.name,
                        file.path(), r, largest);
      }
      buffers.scales[static_cast<size_t>(r - begin)] = Int8Scale(largest);
    }
  }
  for (Part& part : parts) {
    const TensorSlice& slice = part.tensor->slice;
    const int64_t from = std::max(begin, slice.rows.begin), to = std::min(end, slice.rows.end);
    if (from >= to) continue;
    const int64_t first = slice.columns.begin * rows.inner, width = slice.columns.size() * rows.inner;
    const std::byte* raw = buffers.raw.data() + (from - begin) * rows.bytes();
    if (part.scale != nullptr) {
      const std::span<const float> scales =
          std::span(buffers.scales)
              .subspan(static_cast<size_t>(from - begin), static_cast<size_t>(to - from));
      buffers.cut.resize(static_cast<size_t>((to - from) * width));
      for (int64_t r = 0; r < to - from; ++r) {
        ToInt8(raw + r * rows.bytes() + first * rows.element_bytes, source.dtype, width,
               scales[static_cast<size_t>(r)], reinterpret_cast<int8_t*>(buffers.cut.data()) + r * width);
      }
      RETURN_IF_ERROR(part.Append(buffers.cut));
      RETURN_IF_ERROR(part.AppendScales(std::as_bytes(scales)));
    } else if (width == rows.elements) {
      RETURN_IF_ERROR(part.Append({raw, static_cast<size_t>((to - from) * rows.bytes())}));
    } else {
      const int64_t cut_bytes = width * rows.element_bytes;
      buffers.cut.resize(static_cast<size_t>((to - from) * cut_bytes));
      for (int64_t r = 0; r < to - from; ++r) {
        std::memcpy(buffers.cut.data() + r * cut_bytes, raw + r * rows.bytes() + first * rows.element_bytes,
                    static_cast<size_t>(cut_bytes));
      }
      RETURN_IF_ERROR(part.Append(buffers.cut));
    }
  }
  read_((end - begin) * rows.bytes());
  return absl::OkStatus();
}

}  // namespace fulger
