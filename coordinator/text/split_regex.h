// A pre-tokenizer's regular expression from tokenizer.json, run by PCRE2 (UTF, UCP, JIT) with the meaning
// that Hugging Face tokenizers (Oniguruma, Ruby syntax) gives it. Only constructs on which both agree are
// accepted: literals, classes, \s \S, \p{..} of general categories, groups (?: (?i: (?= (?!, greedy, lazy and
// possessive repeats. Anything else is UNIMPLEMENTED and named, so that no file is cut silently in another
// way.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace fulger {

struct Span {
  size_t begin;
  size_t end;
};

class SplitRegex {
 public:
  // Working memory of a search; one per thread, used with any expression.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

   private:
    friend class SplitRegex;
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

  static absl::StatusOr<SplitRegex> Compile(std::string_view pattern);
  SplitRegex(SplitRegex&&) noexcept;
  SplitRegex& operator=(SplitRegex&&) noexcept;
  ~SplitRegex();

  // The next match at or after `from`, never empty; {text.size(), text.size()} where there is none. `text`
  // must be valid UTF-8 with new code points swapped (unicode_delta.h), `from` a character boundary.
  // Thread-safe.
  absl::StatusOr<Span> Find(std::string_view text, size_t from, Scratch& scratch) const;

 private:
  struct Impl;
  explicit SplitRegex(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fulger
