// The page's files, inside the program: it needs no folder beside it and no internet.
#pragma once

#include <span>
#include <string_view>

namespace fulger {

struct PageAsset {
  std::string_view path;          // under assets/
  std::string_view content_type;  // with its charset
  std::string_view etag;          // with its quotes; of the bytes
  std::string_view body;
};

// Written at build time by embed.cmake.
std::span<const PageAsset> PageAssets();

}  // namespace fulger
