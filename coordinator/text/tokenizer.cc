#include "coordinator/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "base/file.h"
#include "coordinator/text/added_tokens.h"
#include "coordinator/text/bpe.h"
#include "coordinator/text/byte_alphabet.h"
#include "coordinator/text/split_regex.h"
#include "coordinator/text/tokenizer_file.h"
#include "coordinator/text/unicode_delta.h"
#include "coordinator/text/utf8.h"
#include "coordinator/text/word_scanner.h"

namespace fulger {
namespace {

// Per thread, shared by all tokenizers that the thread uses.
struct Workspace {
  SplitRegex::Scratch regex;
  BpeModel::Scratch bpe;
  std::vector<TextSpan> spans;
  std::string swapped;
  std::array<uint32_t, 512> word_ends;
};

Workspace& ThreadWorkspace() {
  thread_local Workspace workspace;
  return workspace;
}

enum TokenFlags : uint8_t {
  kExists = 1,
  kSpecial = 2,
  kLiteral = 4,  // not spelled in the byte alphabet
};

using IdsByName = std::map<std::string, int32_t, std::less<>>;

// All that is known about single tokens.
struct TokenTable {
  explicit TokenTable(const TokenizerFile& file);
  uint8_t Flags(int32_t id) const {
    return id < 0 || static_cast<size_t>(id) >= flags.size() ? uint8_t{0} : flags[static_cast<size_t>(id)];
  }

  std::vector<uint8_t> flags;      // by id
  std::vector<std::string> bytes;  // by id
  IdsByName literals;              // added tokens and pieces outside the byte alphabet
  IdsByName added_tokens;
  std::vector<int32_t> special;
};

TokenTable::TokenTable(const TokenizerFile& file) {
  int32_t count = 0;
  for (const TokenizerFile::Piece& piece : file.pieces) count = std::max(count, piece.id + 1);
  for (const AddedToken& token : file.added_tokens) count = std::max(count, token.id + 1);
  flags.resize(static_cast<size_t>(count));
  bytes.resize(static_cast<size_t>(count));
  for (const TokenizerFile::Piece& piece : file.pieces) {
    const auto id = static_cast<size_t>(piece.id);
    flags[id] = piece.in_alphabet ? kExists : kExists | kLiteral;
    bytes[id] = piece.bytes;
    if (!piece.in_alphabet) literals.emplace(piece.text, piece.id);
  }
  for (const AddedToken& token : file.added_tokens) {
    const auto id = static_cast<size_t>(token.id);
    flags[id] = static_cast<uint8_t>(kExists | kLiteral | (token.special ? kSpecial : 0));
    bytes[id] = token.content;
    literals.emplace(token.content, token.id);
    added_tokens.emplace(token.content, token.id);
    if (token.special) special.push_back(token.id);
  }
  std::sort(special.begin(), special.end());
}

BpeModel::Spec MakeBpeSpec(const TokenizerFile& file, const TokenTable& table) {
  BpeModel::Spec spec;
  spec.ignore_merges = file.ignore_merges;
  spec.bytes.resize(table.flags.size());
  for (const TokenizerFile::Piece& piece : file.pieces) {
    // Typed text must not reach a special token through model.vocab either.
    const bool reachable = piece.in_alphabet && (table.Flags(piece.id) & kSpecial) == 0;
    if (reachable) spec.bytes[static_cast<size_t>(piece.id)] = piece.bytes;
  }
  for (const TokenizerFile::Merge& m : file.merges) spec.merges.push_back({m.left, m.right, m.result});
  return spec;
}

}  // namespace

struct Tokenizer::Impl {
  void EncodeByScanner(std::string_view text, Workspace& workspace, std::vector<int32_t>* ids) const;
  absl::Status EncodeByRegex(std::string_view text, std::string_view subject, Workspace& workspace,
                             std::vector<int32_t>* ids) const;
  absl::StatusOr<int32_t> Named(std::string_view key, const std::string& name) const;

  SplitRegex regex;
  std::optional<WordScanner> scanner;  // does the same faster, where the expression is a known one
  BpeModel bpe;
  AddedTokenMatcher matcher;
  TokenTable table;
  SpecialTokenNames names;
};

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

absl::StatusOr<Tokenizer> Tokenizer::Parse(std::string_view tokenizer_json, std::string_view config_json) {
  absl::StatusOr<TokenizerFile> parsed = ParseTokenizerJson(tokenizer_json);
  if (!parsed.ok()) return Annotate(parsed.status(), "tokenizer.json");
  const TokenizerFile& file = *parsed;
  SpecialTokenNames names;
  if (!config_json.empty()) {
    absl::StatusOr<SpecialTokenNames> config = ParseTokenizerConfig(config_json);
    if (!config.ok()) return Annotate(config.status(), "tokenizer_config.json");
    names = *std::move(config);
  }
  absl::StatusOr<SplitRegex> regex = SplitRegex::Compile(file.split_regex);
  if (!regex.ok()) return Annotate(regex.status(), "tokenizer.json: pre_tokenizer");

  TokenTable table(file);
  absl::StatusOr<BpeModel> bpe = BpeModel::Create(MakeBpeSpec(file, table));
  if (!bpe.ok()) return Annotate(bpe.status(), "tokenizer.json: model");
  return Tokenizer(std::unique_ptr<const Impl>(new Impl{.regex = *std::move(regex),
                                                        .scanner = WordScanner::For(file.split_regex),
                                                        .bpe = *std::move(bpe),
                                                        .matcher = AddedTokenMatcher(file.added_tokens),
                                                        .table = std::move(table),
                                                        .names = std::move(names)}));
}

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string json, ReadFile(dir + "/tokenizer.json"));
  std::string config;
  if (FileExists(dir + "/tokenizer_config.json")) {
    ASSIGN_OR_RETURN(config, ReadFile(dir + "/tokenizer_config.json"));
    if (config.empty()) return InvalidArgument("{}/tokenizer_config.json: empty file", dir);
  }
  absl::StatusOr<Tokenizer> tokenizer = Parse(json, config);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), dir);
  return tokenizer;
}

void Tokenizer::Impl::EncodeByScanner(std::string_view text, Workspace& workspace,
                                      std::vector<int32_t>* ids) const {
  for (size_t at = 0; at < text.size();) {
    const size_t words = scanner->Cut(text, at, workspace.word_ends);
    bpe.EncodeWords(text, at, std::span(workspace.word_ends).first(words), workspace.bpe, ids);
    at = workspace.word_ends[words - 1];
  }
}

// `subject` is `text` with new code points swapped; words are cut in the one and taken from the other.
absl::Status Tokenizer::Impl::EncodeByRegex(std::string_view text, std::string_view subject,
                                            Workspace& workspace, std::vector<int32_t>* ids) const {
  size_t at = 0;
  while (at < text.size()) {
    ASSIGN_OR_RETURN(const Span match, regex.Find(subject, at, workspace.regex));
    // What lies between two matches is a word too.
    const std::array ends = {static_cast<uint32_t>(match.begin), static_cast<uint32_t>(match.end)};
    bpe.EncodeWords(text, at, ends, workspace.bpe, ids);
    at = match.end;
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::Encode(std::string_view text, AddedTokens added, std::vector<int32_t>* ids) const {
  if (text.size() > INT32_MAX) return InvalidArgument("text: {} bytes, at most {}", text.size(), INT32_MAX);
  if (const auto offset = FindInvalidUtf8(text); offset.has_value()) {
    return InvalidArgument("text is not UTF-8: byte 0x{:02X} at offset {}",
                           static_cast<uint8_t>(text[*offset]), *offset);
  }
  Workspace& workspace = ThreadWorkspace();
  const std::string_view subject =
      impl_->scanner.has_value() ? text : SwapNewCodePoints(text, &workspace.swapped);
  workspace.spans.clear();
  if (added == AddedTokens::kParse) {
    impl_->matcher.Split(text, &workspace.spans);
  } else if (!text.empty()) {
    workspace.spans.push_back({-1, 0, text.size()});
  }
  const size_t before = ids->size();
  for (const TextSpan& span : workspace.spans) {
    if (span.id >= 0) {
      ids->push_back(span.id);
      continue;
    }
    const size_t length = span.end - span.begin;
    const std::string_view part = text.substr(span.begin, length);
    if (impl_->scanner.has_value()) {
      impl_->EncodeByScanner(part, workspace, ids);
      continue;
    }
    absl::Status status = impl_->EncodeByRegex(part, subject.substr(span.begin, length), workspace, ids);
    if (!status.ok()) {
      ids->resize(before);
      return status;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text, AddedTokens added) const {
  std::vector<int32_t> ids;
  RETURN_IF_ERROR(Encode(text, added, &ids));
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip_special_tokens || !IsSpecial(id)) bytes += IdToBytes(id);
  }
  return ReplaceInvalidUtf8(bytes);
}

std::string_view Tokenizer::IdToBytes(int32_t id) const {
  return impl_->table.Flags(id) == 0 ? std::string_view()
                                     : std::string_view(impl_->table.bytes[static_cast<size_t>(id)]);
}

std::optional<std::string> Tokenizer::IdToPiece(int32_t id) const {
  const uint8_t flags = impl_->table.Flags(id);
  if (flags == 0) return std::nullopt;
  const std::string& bytes = impl_->table.bytes[static_cast<size_t>(id)];
  return (flags & kLiteral) != 0 ? bytes : BytesToAlphabet(bytes);
}

std::optional<int32_t> Tokenizer::TokenToId(std::string_view piece) const {
  if (const auto it = impl_->table.literals.find(piece); it != impl_->table.literals.end()) return it->second;
  const std::optional<std::string> bytes = BytesFromAlphabet(piece);
  if (!bytes.has_value() || bytes->empty()) return std::nullopt;
  const int32_t id = impl_->bpe.Find(*bytes);
  return id < 0 ? std::nullopt : std::optional(id);
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(impl_->table.flags.size()); }
bool Tokenizer::IsSpecial(int32_t id) const { return (impl_->table.Flags(id) & kSpecial) != 0; }
const std::vector<int32_t>& Tokenizer::special_ids() const { return impl_->table.special; }

absl::StatusOr<int32_t> Tokenizer::ControlId(std::string_view spelling) const {
  const auto it = impl_->table.added_tokens.find(spelling);
  if (it == impl_->table.added_tokens.end()) {
    return NotFound("tokenizer.json has no added token \"{}\" (it has {} others)", spelling,
                    impl_->table.added_tokens.size());
  }
  return it->second;
}

absl::StatusOr<int32_t> Tokenizer::Impl::Named(std::string_view key, const std::string& name) const {
  if (name.empty()) return NotFound("tokenizer_config.json names no {}", key);
  if (const auto it = table.literals.find(name); it != table.literals.end()) return it->second;
  return NotFound("tokenizer_config.json: {} \"{}\" is not in tokenizer.json", key, name);
}

absl::StatusOr<int32_t> Tokenizer::bos_id() const { return impl_->Named("bos_token", impl_->names.bos); }
absl::StatusOr<int32_t> Tokenizer::eos_id() const { return impl_->Named("eos_token", impl_->names.eos); }
absl::StatusOr<int32_t> Tokenizer::unk_id() const { return impl_->Named("unk_token", impl_->names.unk); }

}  // namespace fulger
