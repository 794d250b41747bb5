// Every id equal to Hugging Face tokenizers' over more than a megabyte of mixed text, in both pre-tokenizer
// families; goldens by tests/golden/text/make_text_goldens.py.
#include <gtest/gtest.h>
#include <zlib.h>

#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "coordinator/text/detokenizer.h"
#include "coordinator/text/pre_tokenizer_test_util.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/tokenizer_file.h"
#include "coordinator/text/utf8.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using Json = nlohmann::json;
const std::string kDir = "tests/golden/text/";

std::string Slurp(const std::string& name) {
  const absl::StatusOr<std::string> text = ReadFile(kDir + name);
  EXPECT_TRUE(text.ok()) << text.status().ToString();
  return text.ok() ? *text : "";
}

class Fnv {
 public:
  void Add(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) hash_ = (hash_ ^ (value >> (8 * i) & 0xFF)) * 0x100000001B3ULL;
  }
  std::string Hex() const { return fmt::format("{:016x}", hash_); }

 private:
  uint64_t hash_ = 0xCBF29CE484222325ULL;
};

std::string HashIds(const std::vector<int32_t>& ids) {
  Fnv fnv;
  for (const int32_t id : ids) fnv.Add(static_cast<uint32_t>(id), 4);
  return fnv.Hex();
}

std::string HashText(const std::string& text) {
  Fnv fnv;
  for (const char c : text) fnv.Add(static_cast<uint8_t>(c), 1);
  return fnv.Hex();
}

std::string Corpus(size_t size) {
  const std::string packed = Slurp("corpus.z");
  std::string text(size, '\0');
  uLongf length = size;
  EXPECT_EQ(uncompress(reinterpret_cast<Bytef*>(text.data()), &length,
                       reinterpret_cast<const Bytef*>(packed.data()), packed.size()),
            Z_OK);
  EXPECT_EQ(length, size);
  return text;
}

size_t CorpusSize(const Json& ids) {
  size_t total = 0;
  for (const Json& size : ids["chunk_bytes"]) total += size.get<size_t>();
  return total;
}

struct Variant {
  const char* name;
  const char* dir;
  AddedTokens added;
  bool ignore_merges;
  bool unknown_regex = false;  // the same expression spelled so that no scanner is known for it
};
constexpr Variant kVariants[] = {
    {"bytelevel", "tokenizer_bytelevel", AddedTokens::kParse, false},
    {"bytelevel_as_text", "tokenizer_bytelevel", AddedTokens::kAsText, false},
    {"split", "tokenizer_split", AddedTokens::kParse, false},
    {"split_as_text", "tokenizer_split", AddedTokens::kAsText, false},
    {"split_ignore_merges", "tokenizer_split", AddedTokens::kParse, true},
    {"split", "tokenizer_split", AddedTokens::kParse, false, true},
};

Tokenizer LoadVariant(const Variant& variant) {
  std::string json = Slurp(std::string(variant.dir) + "/tokenizer.json");
  if (variant.ignore_merges) {
    const std::string off = "\"ignore_merges\":false";
    const size_t at = json.find(off);
    EXPECT_NE(at, std::string::npos);
    json.replace(at, off.size(), "\"ignore_merges\":true");
  }
  if (variant.unknown_regex) {
    Json parsed = Json::parse(json);
    Json& regex = parsed["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
    regex = "(?:" + regex.get<std::string>() + ")";
    EXPECT_FALSE(WordScanner::For(regex.get<std::string>()).has_value());
    json = parsed.dump();
  }
  absl::StatusOr<Tokenizer> tokenizer = Tokenizer::Parse(json);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().ToString();
  return *std::move(tokenizer);
}

class GoldenTest : public testing::TestWithParam<Variant> {};

TEST_P(GoldenTest, IdsOfEveryChunk) {
  const Json golden = Json::parse(Slurp("ids.json"));
  const Json& expected = golden["variants"][GetParam().name];
  const auto sizes = golden["chunk_bytes"].get<std::vector<size_t>>();
  const size_t total = CorpusSize(golden);
  ASSERT_GE(total, 1'000'000u);
  const std::string corpus = Corpus(total);
  const Tokenizer tokenizer = LoadVariant(GetParam());
  size_t at = 0;
  std::vector<int32_t> ids;
  for (size_t i = 0; i < sizes.size(); ++i) {
    ids.clear();
    const std::string_view chunk = std::string_view(corpus).substr(at, sizes[i]);
    ASSERT_OK(tokenizer.Encode(chunk, GetParam().added, &ids));
    if (i < expected["full"].size()) {
      EXPECT_EQ(ids, expected["full"][i].get<std::vector<int32_t>>()) << "chunk " << i;
    }
    EXPECT_EQ(ids.size(), expected["counts"][i].get<size_t>()) << "chunk " << i << " at byte " << at;
    EXPECT_EQ(HashIds(ids), expected["hashes"][i]) << "chunk " << i << " at byte " << at;
    if (GetParam().added == AddedTokens::kAsText) {
      EXPECT_EQ(tokenizer.Decode(ids, false), chunk) << "chunk " << i;
    }
    at += sizes[i];
  }
  ASSERT_OK_AND_ASSIGN(ids, tokenizer.Encode(corpus, GetParam().added));
  EXPECT_EQ(ids.size(), expected["whole_count"].get<size_t>());
  EXPECT_EQ(HashIds(ids), expected["whole_hash"]);
}

INSTANTIATE_TEST_SUITE_P(Variants, GoldenTest, testing::ValuesIn(kVariants), [](const auto& variant) {
  return std::string(variant.param.name) + (variant.param.unknown_regex ? "_by_regex" : "");
});

// Each code point of Unicode in ten contexts: the regular expression engine and the scanners must agree with
// the reference on all categories.
TEST(PreTokenizerGolden, CutsEveryCodePointAlike) {
  const Json golden = Json::parse(Slurp("points.json"));
  for (const std::string name : {"bytelevel", "split"}) {
    ASSERT_OK_AND_ASSIGN(const TokenizerFile file,
                         ParseTokenizerJson(Slurp("tokenizer_" + name + "/tokenizer.json")));
    ASSERT_OK_AND_ASSIGN(const SplitRegex regex, SplitRegex::Compile(file.split_regex));
    const std::optional<WordScanner> scanner = WordScanner::For(file.split_regex);
    ASSERT_TRUE(scanner.has_value()) << name;
    for (uint32_t base = 0; base < 0x110000; base += 4096) {
      std::string text;
      for (uint32_t c = base; c < base + 4096; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        std::string p;
        AppendUtf8(c, &p);
        text += "a" + p + p + "1" + p + " " + p + "b'" + p + "A" + p + "\n";
      }
      for (const std::vector<uint32_t>& ends : {CutByRegex(regex, text), CutByScanner(*scanner, text)}) {
        Fnv fnv;
        for (const uint32_t end : ends) fnv.Add(end, 4);
        EXPECT_EQ(ends.size(), golden[name][base / 4096][0].get<size_t>())
            << name << fmt::format(" U+{:04X}", base);
        EXPECT_EQ(fnv.Hex(), golden[name][base / 4096][1]) << name << fmt::format(" U+{:04X}", base);
      }
    }
  }
}

TEST(DecodeGolden, WholeAndIncremental) {
  const Json golden = Json::parse(Slurp("decode.json"));
  for (const std::string name : {"bytelevel", "split"}) {
    ASSERT_OK_AND_ASSIGN(const Tokenizer tokenizer, Tokenizer::Load(kDir + "tokenizer_" + name));
    ASSERT_GE(golden[name].size(), 100u);
    for (const Json& row : golden[name]) {
      const auto ids = row["ids"].get<std::vector<int32_t>>();
      for (const bool skip : {false, true}) {
        const std::string text = tokenizer.Decode(ids, skip);
        if (row.contains("text")) {
          EXPECT_EQ(text, row[skip ? "skipped" : "text"].get<std::string>());
        } else {
          EXPECT_EQ(HashText(text), row[skip ? "skipped_hash" : "text_hash"]);
        }
        Detokenizer detokenizer(&tokenizer, {.skip_special_tokens = skip});
        std::string grown;
        for (const int32_t id : ids) {
          const std::string part = detokenizer.Push(id);
          EXPECT_FALSE(FindInvalidUtf8(part).has_value());
          grown += part;
        }
        grown += detokenizer.Flush();
        EXPECT_EQ(grown, text);
      }
    }
  }
}

TEST(Utf8Golden, ReplacesAsPythonDoes) {
  const auto unhex = [](const std::string& hex) {
    std::string bytes;
    for (size_t i = 0; i < hex.size(); i += 2)
      bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    return bytes;
  };
  const Json golden = Json::parse(Slurp("broken.json"));
  ASSERT_GE(golden.size(), 400u);
  for (const Json& row : golden) {
    const std::string raw = unhex(row[0]);
    const std::string want = unhex(row[1]);
    EXPECT_EQ(ReplaceInvalidUtf8(raw), want) << row[0];
    EXPECT_EQ(FindInvalidUtf8(raw).has_value(), raw != want) << row[0];
    // Byte by byte, as a stream brings them.
    std::string pending;
    std::string out;
    for (const char byte : raw) {
      pending.push_back(byte);
      pending.erase(0, AppendReplacingInvalidUtf8(pending, /*final=*/false, &out));
    }
    AppendReplacingInvalidUtf8(pending, /*final=*/true, &out);
    EXPECT_EQ(out, want) << row[0];
  }
}

TEST(TokenizerThreads, ShareOneTokenizer) {
  const Tokenizer one = LoadVariant(kVariants[0]);
  const Tokenizer two = LoadVariant(kVariants[2]);
  const std::string valid =
      ReplaceInvalidUtf8(Corpus(CorpusSize(Json::parse(Slurp("ids.json")))).substr(0, 40000));
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> want_one, one.Encode(valid, AddedTokens::kParse));
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> want_two, two.Encode(valid, AddedTokens::kParse));
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(*one.Encode(valid, AddedTokens::kParse), want_one);
        EXPECT_EQ(*two.Encode(valid, AddedTokens::kParse), want_two);
      }
    });
  }
}

}  // namespace
}  // namespace fulger
