// Puts the parts of a picture together again. Parts of different pictures may interleave; those of one come
// in order.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "fulger/v1/control.pb.h"
#include "worker/vision/feature_store.h"

namespace fulger {

class PictureAssembler {
 public:
  // The whole picture with its last part, else null. A part that does not continue the earlier ones drops the
  // picture: the sender's bug shows as a picture of the wrong size, which the feature store refuses by name.
  Picture Add(const v1::TilesPart& part) {
    auto& picture = open_[part.key()];
    if (picture == nullptr || part.offset() == 0) {
      picture = std::make_shared<PictureTiles>();
      picture->key = part.key();
      picture->tiles = part.tiles();
      picture->height = part.height();
      picture->width = part.width();
      picture->more = part.more();
    }
    picture->pixels += part.data();
    if (!part.last()) return nullptr;
    Picture whole = std::move(picture);
    open_.erase(part.key());
    return whole;
  }

 private:
  std::map<std::string, std::shared_ptr<PictureTiles>> open_;
};

}  // namespace fulger
