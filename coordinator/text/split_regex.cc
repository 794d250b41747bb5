#include "coordinator/text/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"

namespace fulger {
namespace {

constexpr std::array kCategories = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",
                                    "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
                                    "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp"};

absl::Status Unsupported(std::string_view pattern, size_t at, std::string_view what) {
  return Unimplemented("regular expression: {} at offset {} is not supported: {}", what, at, pattern);
}

// Walks over the expression and refuses what the two engines read differently.
class Vetting {
 public:
  explicit Vetting(std::string_view pattern) : pattern_(pattern) {}

  absl::Status Run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        RETURN_IF_ERROR(Escape(/*in_class=*/false));
      } else if (c == '[') {
        RETURN_IF_ERROR(Class());
      } else if (c == '(') {
        RETURN_IF_ERROR(Group());
      } else if (c == '^' || c == '$' || c == '.') {
        return Unsupported(pattern_, at_, std::string(1, c));
      } else if (c == '}' && Next(1) == '+') {  // possessive there, repeated here
        return Unsupported(pattern_, at_, "\"}+\"");
      } else {
        ++at_;
      }
    }
    return absl::OkStatus();
  }

 private:
  char Next(size_t ahead) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }

  absl::Status Escape(bool in_class) {
    const char c = Next(1);
    if (c == 'p' || c == 'P') {
      const size_t close = pattern_.find('}', at_);
      if (Next(2) != '{' || close == std::string_view::npos)
        return Unsupported(pattern_, at_, "\\p without {..}");
      const std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
      if (std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end()) {
        return Unsupported(pattern_, at_, fmt::format("property {}", name));
      }
      at_ = close + 1;
      return absl::OkStatus();
    }
    const bool punctuation =
        c > ' ' && c < 0x7F && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    const bool known = c == 's' || c == 'r' || c == 'n' || c == 't' || c == 'f' || (c == 'S' && !in_class);
    if (!punctuation && !known) return Unsupported(pattern_, at_, fmt::format("escape \\{}", c));
    at_ += 2;
    return absl::OkStatus();
  }

  absl::Status Class() {
    const size_t begin = at_;
    at_ += Next(1) == '^' ? 2 : 1;
    while (at_ < pattern_.size() && pattern_[at_] != ']') {
      if (pattern_[at_] == '\\') {
        RETURN_IF_ERROR(Escape(/*in_class=*/true));
      } else if (pattern_[at_] == '[' || (pattern_[at_] == '&' && Next(1) == '&')) {
        return Unsupported(pattern_, at_, "a set operation in a class");
      } else {
        ++at_;
      }
    }
    if (at_ == pattern_.size())
      return InvalidArgument("regular expression: class at offset {} is not closed: {}", begin, pattern_);
    if (at_ == begin + 1) return Unsupported(pattern_, begin, "an empty class");
    ++at_;
    return absl::OkStatus();
  }

  absl::Status Group() {
    if (Next(1) != '?') {
      ++at_;
      return absl::OkStatus();
    }
    for (const std::string_view form : {"(?:", "(?i:", "(?=", "(?!"}) {
      if (pattern_.substr(at_).starts_with(form)) {
        at_ += form.size();
        return absl::OkStatus();
      }
    }
    return Unsupported(pattern_, at_, "a group of this kind");
  }

  std::string_view pattern_;
  size_t at_ = 0;
};

std::string PcreMessage(int code) {
  std::array<unsigned char, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

constexpr size_t kJitStackStart = 64 << 10;
constexpr size_t kJitStackLimit = 8 << 20;

}  // namespace

struct SplitRegex::Scratch::Impl {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr);

  Impl() {
    FULGER_CHECK(data != nullptr && context != nullptr, "out of memory");
    pcre2_jit_stack_assign(context, nullptr, stack);  // a null stack means the machine's own
  }
  ~Impl() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

SplitRegex::Scratch::Scratch() : impl_(std::make_unique<Impl>()) {}
SplitRegex::Scratch::~Scratch() = default;

struct SplitRegex::Impl {
  explicit Impl(pcre2_code* code_in) : code(code_in) {}
  ~Impl() { pcre2_code_free(code); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  pcre2_code* code;
  bool jit = false;
};

SplitRegex::SplitRegex(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;
SplitRegex& SplitRegex::operator=(SplitRegex&&) noexcept = default;
SplitRegex::~SplitRegex() = default;

absl::StatusOr<SplitRegex> SplitRegex::Compile(std::string_view pattern) {
  RETURN_IF_ERROR(Vetting(pattern).Run());
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (code == nullptr) {
    return InvalidArgument("regular expression: {} at offset {}: {}", PcreMessage(error), offset, pattern);
  }
  auto impl = std::make_unique<Impl>(code);
  uint32_t matches_empty = 0;
  pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) return Unimplemented("regular expression: can match the empty text: {}", pattern);
  impl->jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
  return SplitRegex(std::move(impl));
}

absl::StatusOr<Span> SplitRegex::Find(std::string_view text, size_t from, Scratch& scratch) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  pcre2_match_data* data = scratch.impl_->data;
  int rc = PCRE2_ERROR_JIT_STACKLIMIT;
  if (impl_->jit) {
    rc = pcre2_jit_match(impl_->code, subject, text.size(), from, 0, data, scratch.impl_->context);
  }
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {  // slower, same answer, and its stack is the heap
    rc = pcre2_match(impl_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                     scratch.impl_->context);
  }
  if (rc == PCRE2_ERROR_NOMATCH) return Span{text.size(), text.size()};
  if (rc < 0)
    return ResourceExhausted("cutting the text at byte {} of {}: {}", from, text.size(), PcreMessage(rc));
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data);
  return Span{offsets[0], offsets[1]};
}

}  // namespace fulger
