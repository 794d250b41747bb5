#include "tests/support/safetensors_writer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <bit>
#include <fstream>
#include <map>
#include <system_error>
#include <utility>

#include "base/bfloat16.h"
#include "base/check.h"

namespace fulger::testing_support {
namespace {

// Only for normal values that F16 holds exactly, and zero.
uint16_t FloatToF16Exactly(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value);
  if ((u & 0x7fffffffU) == 0) return static_cast<uint16_t>(u >> 16);
  const uint32_t exponent = ((u >> 23) & 0xffU) - 112;
  FULGER_CHECK((u & 0x1fffU) == 0 && exponent > 0 && exponent < 31, "{} is not exact in F16", value);
  return static_cast<uint16_t>(((u >> 16) & 0x8000U) | (exponent << 10) | ((u >> 13) & 0x3ffU));
}

template <typename T>
void Append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendValue(std::string& out, float value, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return Append(out, value);
    case DType::kBF16:
      return Append(out, FloatToBF16(value));
    case DType::kF16:
      return Append(out, FloatToF16Exactly(value));
    case DType::kU8:
      return Append(out, static_cast<uint8_t>(value));
    default:
      FULGER_CHECK(false, "the test writer does not write {}", Name(dtype));
  }
}

}  // namespace

TempFolder::TempFolder(std::string_view name)
    : path_(
          (std::filesystem::temp_directory_path() / fmt::format("fulger_{}_{}", name, ::getpid())).string()) {
  std::filesystem::remove_all(path_);
  std::filesystem::create_directories(path_);
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void WriteBytes(const std::string& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  FULGER_CHECK(out.good(), "writing {}", path);
}

std::string RawSafetensors(std::string_view header, std::string_view data, uint64_t stated_length) {
  std::string out;
  Append(out, stated_length);
  out += header;
  out += data;
  return out;
}

std::string RawSafetensors(std::string_view header, std::string_view data) {
  return RawSafetensors(header, data, header.size());
}

std::string SafetensorsBytes(const std::vector<TensorToWrite>& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::string data;
  for (const TensorToWrite& t : tensors) {
    const size_t begin = data.size();
    for (const float v : t.values) AppendValue(data, v, t.dtype);
    header += fmt::format(R"(,"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", t.name,
                          Name(t.dtype), fmt::join(t.shape, ","), begin, data.size());
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return RawSafetensors(header, data);
}

void WriteSafetensors(const std::string& path, const std::vector<TensorToWrite>& tensors) {
  WriteBytes(path, SafetensorsBytes(tensors));
}

void WriteSharded(const std::string& dir, const std::vector<TensorToWrite>& tensors, int shards) {
  std::map<std::string, std::vector<TensorToWrite>> files;
  std::string map;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string file =
        fmt::format("model-{:05}-of-{:05}.safetensors", i % static_cast<size_t>(shards) + 1, shards);
    files[file].push_back(tensors[i]);
    map += fmt::format("{}\"{}\":\"{}\"", i == 0 ? "" : ",", tensors[i].name, file);
  }
  for (const auto& [file, held] : files) WriteSafetensors(dir + "/" + file, held);
  WriteBytes(dir + "/model.safetensors.index.json",
             fmt::format(R"({{"metadata":{{}},"weight_map":{{{}}}}})", map));
}

float DistinctValue(std::string_view name, int64_t i) {
  uint64_t h = 0xcbf29ce484222325ULL ^ (static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15ULL);
  for (const char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
  h ^= h >> 29;
  // 8 bits of significand, as BF16 has, and an exponent that F16 has.
  const auto mantissa = static_cast<float>(128 + (h & 127U));
  const float scale = std::bit_cast<float>(static_cast<uint32_t>(120 - 7 + ((h >> 7) & 7U)) << 23);
  return ((h >> 10) & 1U) != 0 ? -mantissa * scale : mantissa * scale;
}

TensorToWrite Distinct(std::string name, std::vector<int64_t> shape, DType dtype) {
  TensorToWrite t{std::move(name), std::move(shape), dtype, {}};
  int64_t elements = 1;
  for (const int64_t d : t.shape) elements *= d;
  t.values.reserve(static_cast<size_t>(elements));
  for (int64_t i = 0; i < elements; ++i) t.values.push_back(DistinctValue(t.name, i));
  return t;
}

}  // namespace fulger::testing_support
