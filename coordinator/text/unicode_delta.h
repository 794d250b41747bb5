// The distribution's PCRE2 knows an older Unicode than the regular expressions of Hugging Face tokenizers do,
// so characters of the last years would be cut differently. Before a text is cut, each such character is
// swapped for an old one of the same general category and the same length in UTF-8; offsets stay valid. The
// table is made by tests/golden/text/make_unicode_delta.py.
#pragma once

#include <string>
#include <string_view>

namespace fulger {

// `text` must be valid UTF-8. Returns `text` itself where nothing needs swapping (the usual case), else a
// view of
// `*buffer`, which then holds the swapped copy.
std::string_view SwapNewCodePoints(std::string_view text, std::string* buffer);

}  // namespace fulger
