// For this folder's tests: golden files, and the picture formula of tests/golden/image/pictures.py.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "base/sha256.h"
#include "coordinator/image/rgb_image.h"
#include "model/picture/processor_config.h"

namespace fulger {

inline std::string GoldenPath(const std::string& name) { return "tests/golden/image/" + name; }

inline std::string ReadGolden(const std::string& name) {
  absl::StatusOr<std::string> text = ReadFile(GoldenPath(name));
  EXPECT_TRUE(text.ok()) << text.status() << "; run from the repository root";
  return text.ok() ? *text : std::string();
}

inline nlohmann::json GoldenJson(const std::string& name) { return nlohmann::json::parse(ReadGolden(name)); }

inline std::string HashPixels(std::span<const uint8_t> pixels) {
  Sha256 hash;
  hash.Update(std::as_bytes(pixels));
  return hash.HexDigest();
}

inline RgbImage TestPicture(ImageSize size, uint32_t seed) {
  RgbImage image(size);
  uint8_t* out = image.pixels.data();
  for (uint32_t y = 0; y < static_cast<uint32_t>(size.height); ++y) {
    for (uint32_t x = 0; x < static_cast<uint32_t>(size.width); ++x) {
      for (uint32_t c = 0; c < 3; ++c) {
        const uint32_t ramp = x * (c + 1) + y * (3 - c) + seed * 7;
        const uint32_t edge = ((x >> 3) ^ (y >> 2)) * 37 * (c + 1);
        uint32_t noise = x * 73856093U ^ y * 19349663U ^ (c + 1) * 83492791U ^ (seed + 1) * 2654435761U;
        noise = (noise ^ (noise >> 15)) * 2246822519U;
        *out++ = static_cast<uint8_t>((ramp & 127) + (edge & 63) + (noise >> 26));
      }
    }
  }
  return image;
}

inline ImageProcessorConfig ConfigFromGolden(const nlohmann::json& json) {
  ImageProcessorConfig config;
  config.tile_size = json["tile"];
  config.patch_size = json["patch"];
  for (const auto& pair : json["pinpoints"])
    config.pinpoints.push_back({.height = pair[0], .width = pair[1]});
  return config;
}

}  // namespace fulger
