// What tokenizer.json and tokenizer_config.json say, checked and in plain values. Everything that the
// tokenizer does not do is refused here, with the field's name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/text/added_tokens.h"

namespace fulger {

struct TokenizerFile {
  struct Piece {
    std::string text;   // as the file spells it
    std::string bytes;  // what it stands for
    bool in_alphabet;   // merging could make it
    int32_t id;
  };
  std::vector<Piece> pieces;  // model.vocab
  struct Merge {
    int32_t left;
    int32_t right;
    int32_t result;
  };
  std::vector<Merge> merges;
  std::vector<AddedToken> added_tokens;
  std::string split_regex;
  bool ignore_merges = false;
};

// The names in tokenizer_config.json; empty where it has none.
struct SpecialTokenNames {
  std::string bos;
  std::string eos;
  std::string unk;
};

absl::StatusOr<TokenizerFile> ParseTokenizerJson(std::string_view json);
absl::StatusOr<SpecialTokenNames> ParseTokenizerConfig(std::string_view json);

}  // namespace fulger
