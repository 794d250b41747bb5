// Internal to coordinator/image: integers inside of files. The caller has checked that they lie inside of
// `bytes`.
#pragma once

#include <cstdint>
#include <string_view>

namespace fulger {

inline uint32_t Byte(std::string_view bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }

inline uint32_t Big16(std::string_view b, size_t at) { return Byte(b, at) << 8 | Byte(b, at + 1); }
inline uint32_t Big32(std::string_view b, size_t at) { return Big16(b, at) << 16 | Big16(b, at + 2); }
inline uint32_t Little16(std::string_view b, size_t at) { return Byte(b, at) | Byte(b, at + 1) << 8; }
inline uint32_t Little24(std::string_view b, size_t at) { return Little16(b, at) | Byte(b, at + 2) << 16; }
inline uint32_t Little32(std::string_view b, size_t at) {
  return Little16(b, at) | Little16(b, at + 2) << 16;
}

}  // namespace fulger
