// The checkpoint's tokenizer: byte-level BPE from tokenizer.json, with the ids that Hugging Face tokenizers
// gives (add_special_tokens = false: nothing is added in front or behind). Immutable after loading; all const
// functions are thread-safe. Each thread that encodes keeps about 1 MiB of working memory and recent words.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

// What becomes of the added tokens' spellings ("<image>", ...) in a text.
enum class AddedTokens {
  kAsText,  // letters like any others: for whatever a user typed in a message. Yields no special id, ever.
  kParse,   // the tokens: for whole prompts from a caller who speaks the model's own format
};

class Tokenizer {
 public:
  // Reads `dir`/tokenizer.json and, where present, `dir`/tokenizer_config.json.
  static absl::StatusOr<Tokenizer> Load(const std::string& dir);
  // The same from the files' contents; an empty `config_json` means no such file.
  static absl::StatusOr<Tokenizer> Parse(std::string_view tokenizer_json, std::string_view config_json = {});

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Appends the ids of `text`. INVALID_ARGUMENT with the offset where it is not UTF-8 (then
  // ReplaceInvalidUtf8 of utf8.h is what the reference would have read). On an error `*ids` is as it was.
  absl::Status Encode(std::string_view text, AddedTokens added, std::vector<int32_t>* ids) const;
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, AddedTokens added) const;

  // UTF-8; what is broken is replaced, ids that no token has yield nothing. For text that grows:
  // detokenizer.h.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;
  // The bytes of one token, not necessarily UTF-8; empty for an id that no token has. Lives as long as this.
  std::string_view IdToBytes(int32_t id) const;
  // As tokenizer.json spells it ("Ġhello").
  std::optional<std::string> IdToPiece(int32_t id) const;
  std::optional<int32_t> TokenToId(std::string_view piece) const;

  // The largest id plus one: there may be holes, and the model's vocabulary may be larger.
  int32_t vocab_size() const;
  bool IsSpecial(int32_t id) const;
  const std::vector<int32_t>& special_ids() const;  // ascending

  // The id of an added token by its spelling; NOT_FOUND says which one the checkpoint lacks.
  absl::StatusOr<int32_t> ControlId(std::string_view spelling) const;
  absl::StatusOr<int32_t> image_token_id() const { return ControlId("<image>"); }
  // From tokenizer_config.json: NOT_FOUND where it has none, or names one that tokenizer.json has not.
  absl::StatusOr<int32_t> bos_id() const;
  absl::StatusOr<int32_t> eos_id() const;
  absl::StatusOr<int32_t> unk_id() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace fulger
