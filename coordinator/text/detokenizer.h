// Text from ids as they come: what has been handed out never changes, and a character never straddles two
// chunks. The chunks joined are Tokenizer::Decode of all ids. One per stream of ids; not thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "coordinator/text/tokenizer.h"

namespace fulger {

class Detokenizer {
 public:
  struct Options {
    bool skip_special_tokens = true;
  };
  // `tokenizer` must outlive this.
  Detokenizer(const Tokenizer* tokenizer, Options options) : tokenizer_(tokenizer), options_(options) {}

  // The characters that this id completes; possibly none. Bytes that no further byte could make into a
  // character come out as U+FFFD at once.
  std::string Push(int32_t id);
  // At the end: what was begun and never completed, as U+FFFD. Then as new.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  Options options_;
  std::string pending_;  // the beginning of one character: at most 3 bytes
};

}  // namespace fulger
