// From messages, text or ids to the prompt's ids with room for its pictures. Nothing is decoded here: a
// picture's token count comes from its header, so a prompt that is too long is refused cheaply.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/frontend/frontend.h"
#include "coordinator/frontend/image_preparer.h"
#include "coordinator/image/expand.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/tokenizer.h"

namespace fulger {

struct EncodedPrompt {
  std::vector<int32_t> ids;
  std::vector<PlaceholderRun> runs;      // one per picture
  std::vector<std::string_view> images;  // encoded; they point into the input
  int64_t image_tokens = 0;
  std::vector<int64_t> borders;    // where messages end, ascending; of messages only
  const char* field = "messages";  // where the prompt came from: for messages
};

// Immutable, thread-safe.
class PromptEncoder {
 public:
  struct Options {
    ChatForm form = ChatForm::kVl01;
    bool vision = false;
    int32_t image_token = -1;
    int64_t vocab = 0;
    int64_t max_images = 64;
  };
  // Both must outlive this; `images` may be null without vision.
  PromptEncoder(const Tokenizer* tokenizer, const ImagePreparer* images, Options options)
      : tokenizer_(tokenizer), images_(images), options_(options) {}

  // INVALID_ARGUMENT with the field at fault. `input` must outlive the result.
  absl::StatusOr<EncodedPrompt> Encode(const GenerateInput& input) const;

 private:
  absl::Status EncodeMessages(const GenerateInput& input, EncodedPrompt* out) const;
  absl::Status MakeRoomForPictures(EncodedPrompt* out) const;

  const Tokenizer* tokenizer_;
  const ImagePreparer* images_;
  const Options options_;
};

}  // namespace fulger
