// Encoded pictures become what the vision stage takes. Remembers the last ones by their bytes, because every
// turn of a conversation sends its pictures again.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/status.h"
#include "coordinator/engine/types.h"
#include "coordinator/image/decode.h"
#include "model/picture/grid.h"
#include "model/picture/processor_config.h"

namespace fulger {

// Thread-safe. Two threads that prepare the same new picture both do the work.
class ImagePreparer {
 public:
  ImagePreparer(ImageProcessorConfig config, ImageLimits limits, int64_t cache_bytes)
      : config_(std::move(config)), limits_(limits), cache_bytes_(cache_bytes) {}

  // How many tokens the picture becomes, from its header alone.
  absl::StatusOr<int> CountTokens(std::string_view encoded) const;
  absl::StatusOr<std::shared_ptr<const PreparedImage>> Prepare(std::string_view encoded);

 private:
  using Entry = std::pair<std::string, std::shared_ptr<const PreparedImage>>;
  std::shared_ptr<const PreparedImage> Find(const std::string& hash);
  void Remember(const std::string& hash, const std::shared_ptr<const PreparedImage>& image);

  const ImageProcessorConfig config_;
  const ImageLimits limits_;
  const int64_t cache_bytes_;
  std::mutex mu_;
  int64_t held_ = 0;
  std::list<Entry> recent_;  // the last used is first
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
};

}  // namespace fulger
