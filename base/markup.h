// Text that goes into HTML or SVG.
#pragma once

#include <string>
#include <string_view>

namespace fulger {

// `text` with & < > " ' as entities: shown as it is, between tags or in a quoted attribute.
std::string EscapeMarkup(std::string_view text);

}  // namespace fulger
