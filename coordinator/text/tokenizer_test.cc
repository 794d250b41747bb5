// Files that are wrong or unsupported, texts that are extreme.
#include "coordinator/text/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "coordinator/text/detokenizer.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
const std::string kDir = "tests/golden/text/";
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

const Json& Good() {
  static const Json* json = [] {
    const absl::StatusOr<std::string> text = ReadFile(kDir + "tokenizer_split/tokenizer.json");
    EXPECT_TRUE(text.ok());
    return new Json(Json::parse(*text));
  }();
  return *json;
}

absl::Status WithChange(const std::function<void(Json&)>& change) {
  Json json = Good();
  change(json);
  return Tokenizer::Parse(json.dump()).status();
}

Tokenizer LoadGolden(const std::string& name) {
  absl::StatusOr<Tokenizer> tokenizer = Tokenizer::Load(kDir + name);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().ToString();
  return *std::move(tokenizer);
}

TEST(TokenizerFileErrors, NotTheRightJson) {
  const std::string text = Good().dump();
  EXPECT_THAT(Tokenizer::Parse(text.substr(0, text.size() / 2)).status(),
              StatusIs(kInvalid, HasSubstr("tokenizer.json: not JSON")));
  EXPECT_THAT(Tokenizer::Parse("hello").status(), StatusIs(kInvalid, HasSubstr("not JSON")));
  EXPECT_THAT(Tokenizer::Parse("").status(), StatusIs(kInvalid, HasSubstr("not JSON")));
  EXPECT_THAT(Tokenizer::Parse("[]").status(),
              StatusIs(kInvalid, HasSubstr("expected an object, found array")));
  EXPECT_THAT(Tokenizer::Parse(text, "{\"eos_token\": 3}").status(),
              StatusIs(kInvalid, HasSubstr("tokenizer_config.json: eos_token")));
  EXPECT_THAT(Tokenizer::Parse(text, "nope").status(),
              StatusIs(kInvalid, HasSubstr("tokenizer_config.json: not JSON")));
  EXPECT_THAT(Tokenizer::Load("/nonexistent").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent")));
}

struct BadFile {
  const char* name;
  void (*change)(Json&);
  absl::StatusCode code;
  const char* message;
};
const BadFile kBadFiles[] = {
    {"no_model", [](Json& j) { j.erase("model"); }, kInvalid, "model: missing"},
    {"model_type", [](Json& j) { j["model"]["type"] = "Unigram"; }, kUnimplemented,
     "model.type: expected BPE, found Unigram"},
    {"byte_fallback", [](Json& j) { j["model"]["byte_fallback"] = true; }, kUnimplemented,
     "model.byte_fallback"},
    {"suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, kUnimplemented,
     "model.end_of_word_suffix"},
    {"dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }, kUnimplemented, "model.dropout"},
    {"flag_type", [](Json& j) { j["model"]["ignore_merges"] = 1; }, kInvalid,
     "model.ignore_merges: expected true or false"},
    {"normalizer",
     [](Json& j) {
       j["normalizer"] = {{"type", "NFC"}};
     },
     kUnimplemented, "normalizer: expected null, found NFC"},
    {"no_pre_tokenizer", [](Json& j) { j["pre_tokenizer"] = nullptr; }, kInvalid, "pre_tokenizer: missing"},
    {"pre_tokenizer_type",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Metaspace"}};
     },
     kUnimplemented, "found Metaspace"},
    {"digits",
     [](Json& j) {
       Json& steps = j["pre_tokenizer"]["pretokenizers"];
       steps.insert(steps.begin(), Json{{"type", "Digits"}});
     },
     kUnimplemented, "found Digits"},
    {"behavior", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"; },
     kUnimplemented, "behavior"},
    {"invert", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["invert"] = true; }, kUnimplemented,
     "invert"},
    {"prefix_space", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; },
     kUnimplemented, "add_prefix_space"},
    {"two_regexes", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = true; },
     kUnimplemented, "more than one"},
    {"no_split", [](Json& j) { j["pre_tokenizer"]["pretokenizers"].erase(0); }, kUnimplemented,
     "no Split before it"},
    {"no_byte_level", [](Json& j) { j["pre_tokenizer"]["pretokenizers"].erase(1); }, kUnimplemented,
     "ByteLevel at its end"},
    {"string_pattern",
     [](Json& j) {
       j["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"String", " "}};
     },
     kInvalid, "pattern.Regex"},
    {"vocab_missing", [](Json& j) { j["model"].erase("vocab"); }, kInvalid,
     "model.vocab: expected an object"},
    {"id_negative", [](Json& j) { j["model"]["vocab"]["a"] = -1; }, kInvalid,
     "model.vocab[\"a\"]: expected an id"},
    {"id_wild", [](Json& j) { j["model"]["vocab"]["a"] = 4000000000u; }, kInvalid, "found 4000000000"},
    {"id_text", [](Json& j) { j["model"]["vocab"]["a"] = "7"; }, kInvalid, "found \"7\""},
    {"id_twice", [](Json& j) { j["model"]["vocab"]["new piece"] = j["model"]["vocab"]["a"]; }, kInvalid,
     "belongs to both"},
    {"byte_missing",
     [](Json& j) {
       j["model"]["vocab"]["Ċ2"] = j["model"]["vocab"]["Ċ"];
       j["model"]["vocab"].erase("Ċ");
       j["model"]["merges"] = Json::array();
     },
     kInvalid, "byte 0x0A has no piece"},
    {"merges_missing", [](Json& j) { j["model"].erase("merges"); }, kInvalid, "model.merges"},
    {"merge_unknown", [](Json& j) { j["model"]["merges"][3] = "zzzz a"; }, kInvalid,
     "model.merges[3]: \"zzzz\" is not in model.vocab"},
    {"merge_result",
     [](Json& j) {
       j["model"]["merges"][5] = {"Z", "~"};
     },
     kInvalid, "model.merges[5]: \"Z~\" is not in model.vocab"},
    {"merge_shape", [](Json& j) { j["model"]["merges"][0] = "a b c"; }, kInvalid,
     "model.merges[0]: expected"},
    {"merge_number", [](Json& j) { j["model"]["merges"][0] = 7; }, kInvalid, "found 7"},
    {"added_single_word", [](Json& j) { j["added_tokens"][0]["single_word"] = true; }, kUnimplemented,
     "added_tokens[0].single_word"},
    {"added_empty", [](Json& j) { j["added_tokens"][0]["content"] = ""; }, kInvalid,
     "added_tokens[0].content: empty"},
    {"added_no_id", [](Json& j) { j["added_tokens"][1].erase("id"); }, kInvalid,
     "added_tokens[1].id: missing"},
    {"added_id_taken", [](Json& j) { j["added_tokens"][1]["id"] = j["added_tokens"][0]["id"]; }, kInvalid,
     "belongs to both"},
    {"added_twice", [](Json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); }, kInvalid,
     "listed twice"},
    {"added_other_id", [](Json& j) { j["added_tokens"][0]["content"] = "a"; }, kInvalid, "model.vocab says"},
    {"added_list", [](Json& j) { j["added_tokens"] = 3; }, kInvalid, "added_tokens: expected a list"},
    {"special_byte",
     [](Json& j) {
       j["added_tokens"].push_back({{"id", j["model"]["vocab"]["!"]}, {"content", "!"}, {"special", true}});
     },
     kInvalid, "special token \"!\" is also the piece of a byte"},
};

TEST(TokenizerFileErrors, EachIsNamed) {
  for (const BadFile& bad : kBadFiles) {
    EXPECT_THAT(WithChange(bad.change), StatusIs(bad.code, HasSubstr(bad.message))) << bad.name;
  }
}

TEST(TokenizerFileErrors, RegexesThatTheEnginesReadDifferently) {
  for (const std::string regex :
       {"^a", "a$", "a.", "\\w+", "\\bx", "\\h", "\\d", "[a&&b]", "[[a]]", "\\p{Han}", "\\pL", "(?<=a)b",
        "a{1,2}+", "(?m)a", "[\\S]", "\\1", "[]a]"}) {
    const absl::Status status =
        WithChange([&](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = regex; });
    EXPECT_THAT(status, StatusIs(kUnimplemented, HasSubstr("not supported"))) << regex;
  }
  for (const std::string regex : {"(a", "[a", "a)", "*"}) {
    const absl::Status status =
        WithChange([&](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = regex; });
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("regular expression"))) << regex;
  }
  EXPECT_THAT(WithChange([](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "a*"; }),
              StatusIs(kUnimplemented, HasSubstr("empty text")));
}

// A special token inside model.vocab, as some exporters write it, must stay out of reach of typed text.
TEST(TokenizerSafety, SpecialTokensInTheVocabulary) {
  Json json = Good();
  json["model"]["ignore_merges"] = true;
  json["model"]["vocab"]["reserved"] = 9000;
  json["added_tokens"].push_back(
      {{"id", 9000}, {"content", "reserved"}, {"special", true}, {"normalized", false}});
  ASSERT_OK_AND_ASSIGN(const Tokenizer tokenizer, Tokenizer::Parse(json.dump()));
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> typed, tokenizer.Encode("reserved", AddedTokens::kAsText));
  EXPECT_EQ(std::count(typed.begin(), typed.end(), 9000), 0);
  EXPECT_EQ(tokenizer.Decode(typed, false), "reserved");
  EXPECT_EQ(*tokenizer.Encode("reserved", AddedTokens::kParse), std::vector<int32_t>{9000});

  json["model"]["vocab"]["res"] = 9001;
  json["model"]["vocab"]["erved"] = 9002;
  json["model"]["merges"].push_back("res erved");
  EXPECT_THAT(Tokenizer::Parse(json.dump()).status(),
              StatusIs(kInvalid, HasSubstr("makes the special token \"reserved\"")));
}

TEST(Tokenizer, NamesAndIds) {
  const Tokenizer tokenizer = LoadGolden("tokenizer_split");
  ASSERT_OK_AND_ASSIGN(const int32_t image, tokenizer.image_token_id());
  EXPECT_EQ(tokenizer.TokenToId("<image>"), image);
  EXPECT_EQ(tokenizer.IdToPiece(image), "<image>");
  EXPECT_TRUE(tokenizer.IsSpecial(image));
  EXPECT_EQ(*tokenizer.bos_id(), *tokenizer.ControlId("<beginning_of_sentence>"));
  EXPECT_EQ(*tokenizer.eos_id(), *tokenizer.ControlId("<end_of_sentence>"));
  EXPECT_EQ(*tokenizer.unk_id(), *tokenizer.ControlId("<end_of_document>"));
  EXPECT_EQ(tokenizer.special_ids().size(), 5u);
  EXPECT_FALSE(tokenizer.IsSpecial(*tokenizer.ControlId("<|note|>")));
  // Every piece of the file, both ways.
  for (const auto& [piece, id] : Good()["model"]["vocab"].items()) {
    EXPECT_EQ(tokenizer.TokenToId(piece), id.get<int32_t>());
    EXPECT_EQ(tokenizer.IdToPiece(id.get<int32_t>()), piece);
  }
  EXPECT_EQ(tokenizer.TokenToId("no such piece"), std::nullopt);
  EXPECT_EQ(tokenizer.TokenToId(""), std::nullopt);
  for (const int32_t id : {-1, tokenizer.vocab_size(), INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(tokenizer.IdToPiece(id), std::nullopt);
    EXPECT_EQ(tokenizer.IdToBytes(id), "");
    EXPECT_FALSE(tokenizer.IsSpecial(id));
  }
}

TEST(Tokenizer, MissingNamesSaySo) {
  const std::string json = Good().dump();
  ASSERT_OK_AND_ASSIGN(const Tokenizer none, Tokenizer::Parse(json));
  EXPECT_THAT(none.eos_id().status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("names no eos_token")));
  ASSERT_OK_AND_ASSIGN(const Tokenizer odd,
                       Tokenizer::Parse(json, R"({"eos_token": "</s>", "bos_token": null})"));
  EXPECT_THAT(odd.eos_id().status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("eos_token \"</s>\" is not in")));
  EXPECT_THAT(odd.bos_id().status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("names no bos_token")));
}

TEST(Tokenizer, EmptyNulAndBrokenText) {
  const Tokenizer tokenizer = LoadGolden("tokenizer_split");
  EXPECT_TRUE(tokenizer.Encode("", AddedTokens::kParse)->empty());
  EXPECT_TRUE(tokenizer.Encode({}, AddedTokens::kAsText)->empty());
  const std::string nul("a\0b\0\0", 5);
  ASSERT_OK_AND_ASSIGN(std::vector<int32_t> ids, tokenizer.Encode(nul, AddedTokens::kParse));
  EXPECT_EQ(tokenizer.Decode(ids, false), nul);
  const std::vector<int32_t> before = ids;
  EXPECT_THAT(tokenizer.Encode("ok \xC3(", AddedTokens::kParse, &ids),
              StatusIs(kInvalid, HasSubstr("byte 0xC3 at offset 3")));
  EXPECT_EQ(ids, before);
  EXPECT_THAT(tokenizer.Encode("\xED\xA0\x80", AddedTokens::kParse, &ids),
              StatusIs(kInvalid, HasSubstr("offset 0")));  // surrogate
}

// A quadratic step anywhere would take hours here and run into the test's time limit.
TEST(Tokenizer, HugeWords) {
  for (const char* name : {"tokenizer_split", "tokenizer_bytelevel"}) {
    const Tokenizer tokenizer = LoadGolden(name);
    for (const std::string unit : {"a", "ab", "Z", "-", " ", "\n", "\t", " \n", "0", "é", "你", "\u0301", "<",
                                   "<im", "aB", "'", "😀"}) {
      std::string text;
      while (text.size() < (256u << 10)) text += unit;
      ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer.Encode(text, AddedTokens::kParse));
      EXPECT_EQ(tokenizer.Decode(ids, false), text) << unit;
    }
  }
}

TEST(Detokenizer, CharactersNeverStraddle) {
  const Tokenizer tokenizer = LoadGolden("tokenizer_split");
  const auto byte = [&](int value) {
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (tokenizer.IdToBytes(id) == std::string(1, static_cast<char>(value))) return id;
    }
    return -1;
  };
  Detokenizer detokenizer(&tokenizer, {});
  EXPECT_EQ(detokenizer.Push(byte(0xF0)), "");
  EXPECT_EQ(detokenizer.Push(byte(0x9F)), "");
  EXPECT_EQ(detokenizer.Push(*tokenizer.image_token_id()), "");  // skipped: the character goes on behind it
  EXPECT_EQ(detokenizer.Push(byte(0x98)), "");
  EXPECT_EQ(detokenizer.Push(byte(0x80)), "\xF0\x9F\x98\x80");
  EXPECT_EQ(detokenizer.Push(byte(0xE4)), "");
  EXPECT_EQ(detokenizer.Push(byte('A')),
            "\uFFFD"
            "A");
  EXPECT_EQ(detokenizer.Push(byte(0xFF)), "\uFFFD");
  EXPECT_EQ(detokenizer.Push(byte(0xE4)), "");
  EXPECT_EQ(detokenizer.Push(byte(0xBD)), "");
  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
  EXPECT_EQ(detokenizer.Flush(), "");
  EXPECT_EQ(detokenizer.Push(999999), "");
  Detokenizer showing(&tokenizer, {.skip_special_tokens = false});
  EXPECT_EQ(showing.Push(*tokenizer.image_token_id()), "<image>");
}

TEST(Tokenizer, LoadsFromAFolder) {
  const std::string dir = testing::TempDir() + "/tokenizer_folder";
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  EXPECT_THAT(Tokenizer::Load(dir).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("tokenizer.json")));
  std::ofstream(dir + "/tokenizer.json") << Good().dump();
  ASSERT_OK(Tokenizer::Load(dir).status());
  std::ofstream(dir + "/tokenizer_config.json") << "";
  EXPECT_THAT(Tokenizer::Load(dir).status(),
              StatusIs(kInvalid, HasSubstr("tokenizer_config.json: empty file")));
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace fulger
