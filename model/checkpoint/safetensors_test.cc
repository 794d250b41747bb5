#include "model/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "tests/support/safetensors_writer.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing_support::RawSafetensors;
using testing_support::SafetensorsBytes;
using testing_support::TempFolder;
using testing_support::WriteBytes;

class Safetensors : public testing::Test {
 protected:
  absl::StatusOr<SafetensorsFile> Open(std::string_view bytes) {
    WriteBytes(path_, bytes);
    return SafetensorsFile::Open(path_);
  }
  // Opens header + `data_bytes` zeros.
  absl::Status OpenHeader(std::string_view header, size_t data_bytes) {
    return Open(RawSafetensors(header, std::string(data_bytes, '\0'))).status();
  }

  TempFolder folder_{"safetensors_test"};
  const std::string path_ = folder_.File("x.safetensors");
};

TEST_F(Safetensors, ReadsWhatWasWritten) {
  ASSERT_OK_AND_ASSIGN(const SafetensorsFile file, Open(SafetensorsBytes({
                                                       {"b", {2, 3}, DType::kBF16, {1, 2, 3, 4, 5, 6}},
                                                       {"a", {2}, DType::kF32, {-1.5F, 0.25F}},
                                                       {"empty", {0, 4}, DType::kF16, {}},
                                                       {"scalar", {}, DType::kF32, {7}},
                                                   })));
  ASSERT_EQ(file.tensors().size(), 4);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const StoredTensor* a = file.Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype, DType::kF32);
  EXPECT_THAT(a->shape, ElementsAre(2));
  EXPECT_EQ(a->bytes(), 8);
  float values[2];
  ASSERT_OK(file.file().ReadAt(a->begin, std::as_writable_bytes(std::span(values))));
  EXPECT_THAT(values, ElementsAre(-1.5F, 0.25F));
  const StoredTensor* b = file.Find("b");
  EXPECT_EQ(b->dtype, DType::kBF16);
  EXPECT_EQ(b->end, a->begin);
  EXPECT_EQ(file.Find("empty")->bytes(), 0);
  EXPECT_EQ(file.Find("scalar")->bytes(), 4);
  EXPECT_EQ(file.Find("c"), nullptr);
  EXPECT_EQ(file.header_hash().size(), 64);
}

TEST_F(Safetensors, OddOffsetsAndUnusedTypesAreLegal) {
  const char* header =
      R"({"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"y":{"dtype":"F32","shape":[1],"data_offsets":[3,7]},)"
      R"("z":{"dtype":"F8_E4M3","shape":[5],"data_offsets":[7,12]},"w":{"dtype":"F4","shape":[4],"data_offsets":[12,14]}})";
  ASSERT_OK_AND_ASSIGN(const SafetensorsFile file, Open(RawSafetensors(header, std::string(14, '\0'))));
  EXPECT_EQ(file.Find("y")->dtype, DType::kF32);
  EXPECT_EQ(file.Find("z")->dtype, std::nullopt);
  EXPECT_EQ(file.Find("z")->dtype_name, "F8_E4M3");
}

TEST_F(Safetensors, LengthThatLies) {
  EXPECT_THAT(Open("").status(), StatusIs(absl::StatusCode::kDataLoss,
                                          AllOf(HasSubstr(path_), HasSubstr("at least 8 bytes, found 0"))));
  EXPECT_THAT(Open("1234567").status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("found 7")));
  EXPECT_THAT(Open(RawSafetensors("{}", "", 3)).status(),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("header of 3 bytes: expected a file of at least 11 bytes, found 10")));
  EXPECT_THAT(Open(RawSafetensors("{}", "", 100'000'001)).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 100000000, found 100000001")));
  EXPECT_THAT(Open(RawSafetensors("{}", "", UINT64_MAX)).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found 18446744073709551615")));
  EXPECT_OK(Open(RawSafetensors("{}  ", "")).status());
}

TEST_F(Safetensors, EveryTruncationIsRefused) {
  const std::string whole =
      SafetensorsBytes({{"a", {4}, DType::kF32, {1, 2, 3, 4}}, {"b", {2}, DType::kBF16, {1, 2}}});
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(Open(std::string_view(whole).substr(0, n)).ok()) << n;
  }
  EXPECT_OK(Open(whole).status());
  EXPECT_THAT(Open(whole + "x").status(),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("the tensors end at offset 20 of the data, the file has 21 bytes of data")));
}

TEST_F(Safetensors, EveryFlippedHeaderByteIsRefusedOrStillConsistent) {
  const std::string whole = SafetensorsBytes({{"a", {4}, DType::kF32, {1, 2, 3, 4}}});
  for (size_t i = 0; i < whole.size() - 16; ++i) {
    for (const char flip : {'\x01', '\x20', '\x80'}) {
      std::string bad = whole;
      bad[i] = static_cast<char>(bad[i] ^ flip);
      const absl::StatusOr<SafetensorsFile> file = Open(bad);
      if (!file.ok()) continue;
      for (const StoredTensor& t : file->tensors()) {
        EXPECT_LE(t.begin, t.end);
        EXPECT_LE(t.end, whole.size());
      }
    }
  }
}

TEST_F(Safetensors, NotTheJsonOfAHeader) {
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(OpenHeader("[1]", 0), StatusIs(code, HasSubstr("expected to start with {")));
  EXPECT_THAT(OpenHeader("{\"a\"", 0),
              StatusIs(code, AllOf(HasSubstr(path_), HasSubstr("expected JSON, at byte"))));
  EXPECT_THAT(OpenHeader("{} {}", 0), StatusIs(code, HasSubstr("expected JSON")));
  EXPECT_THAT(OpenHeader(R"({"a":1})", 0), StatusIs(code, HasSubstr("tensor a: found a number")));
  EXPECT_THAT(OpenHeader(R"({"a":null})", 0), StatusIs(code, HasSubstr("tensor a: found null")));
  EXPECT_THAT(OpenHeader(R"({"a":{"b":{}}})", 0), StatusIs(code, HasSubstr("found the key b")));
  EXPECT_THAT(OpenHeader(R"({"a":{"shape":{}}})", 0),
              StatusIs(code, HasSubstr("tensor a shape: found an object")));
  EXPECT_THAT(OpenHeader(R"({"a":{"shape":[[1]]}})", 0),
              StatusIs(code, HasSubstr("tensor a shape: found a list")));
  EXPECT_THAT(OpenHeader(R"({"a":{"shape":[-1]}})", 0), StatusIs(code, HasSubstr("found a negative number")));
  EXPECT_THAT(OpenHeader(R"({"a":{"shape":[1.5]}})", 0), StatusIs(code, HasSubstr("found a fraction")));
  EXPECT_THAT(OpenHeader(R"({"a":{"shape":[18446744073709551615]}})", 0),
              StatusIs(code, HasSubstr("63 bits")));
  EXPECT_THAT(OpenHeader(R"({"a":{"dtype":["F32"]}})", 0),
              StatusIs(code, HasSubstr("tensor a dtype: found a list")));
  EXPECT_THAT(OpenHeader(R"({"a":{"dtype":"F31"}})", 0),
              StatusIs(code, HasSubstr("tensor a: unknown dtype F31")));
  EXPECT_THAT(OpenHeader(R"({"a":{"dtype":"F32","shape":[1]}})", 4),
              StatusIs(code, HasSubstr("no data_offsets")));
  EXPECT_THAT(OpenHeader(R"({"a":{"data_offsets":[0]}})", 4),
              StatusIs(code, HasSubstr("data_offsets: expected 2 numbers, found 1")));
  EXPECT_THAT(OpenHeader(R"({"__metadata__":{"format":3}})", 0), StatusIs(code, HasSubstr("found a number")));
  EXPECT_THAT(OpenHeader(std::string(100'000, '{'), 0), StatusIs(code, HasSubstr("expected JSON")));
  EXPECT_THAT(OpenHeader("{\"a\":" + std::string(100'000, '['), 0),
              StatusIs(code, HasSubstr("tensor a: found a list")));
}

TEST_F(Safetensors, Duplicates) {
  const std::string tensor = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_THAT(OpenHeader("{\"a\":" + tensor + ",\"a\":" + tensor + "}", 4),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tensor a: named twice")));
  EXPECT_THAT(OpenHeader(R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})", 4),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tensor a: dtype twice")));
}

TEST_F(Safetensors, OffsetsAndShapesMustAgree) {
  const auto one = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return fmt::format(R"({{"a":{{"dtype":"{}","shape":[{}],"data_offsets":[{}]}}}})", dtype, shape, offsets);
  };
  EXPECT_THAT(
      OpenHeader(one("F32", "2", "0,8"), 7),
      StatusIs(absl::StatusCode::kDataLoss,
               AllOf(HasSubstr(path_),
                     HasSubstr("tensor a: data_offsets: expected begin <= end <= 7, found 0 and 8"))));
  EXPECT_THAT(OpenHeader(one("F32", "1", "4,0"), 4),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("found 4 and 0")));
  EXPECT_THAT(OpenHeader(one("F32", "3", "0,8"), 8),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("tensor a: F32 [3]: expected 12 bytes, data_offsets span 8")));
  EXPECT_THAT(OpenHeader(one("F64", "4294967296,4294967296", "0,8"), 8),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("64 bits")));
  EXPECT_THAT(OpenHeader(one("F4", "3", "0,1"), 1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("F4 [3]")));
}

TEST_F(Safetensors, OverlapsAndHoles) {
  const auto two = [](std::string_view first, std::string_view second) {
    return fmt::format(R"({{"a":{{"dtype":"F32","shape":[2],"data_offsets":[{}]}},)"
                       R"("b":{{"dtype":"F32","shape":[2],"data_offsets":[{}]}}}})",
                       first, second);
  };
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_OK(OpenHeader(two("8,16", "0,8"), 16));
  EXPECT_THAT(
      OpenHeader(two("0,8", "4,12"), 12),
      StatusIs(code, HasSubstr("tensor b: expected to begin at offset 8 where the previous one ends, found 4 "
                               "(overlap)")));
  EXPECT_THAT(OpenHeader(two("0,8", "0,8"), 8), StatusIs(code, HasSubstr("overlap")));
  EXPECT_THAT(OpenHeader(two("0,8", "12,20"), 20), StatusIs(code, HasSubstr("found 12 (hole)")));
  EXPECT_THAT(OpenHeader(two("4,12", "12,20"), 20),
              StatusIs(code, HasSubstr("tensor a: expected to begin at offset 0")));
}

TEST_F(Safetensors, NotAFile) {
  EXPECT_THAT(SafetensorsFile::Open(folder_.File("none")).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

}  // namespace
}  // namespace fulger
