#include "coordinator/text/detokenizer.h"

#include "coordinator/text/utf8.h"

namespace fulger {

std::string Detokenizer::Push(int32_t id) {
  std::string out;
  if (options_.skip_special_tokens && tokenizer_->IsSpecial(id)) return out;
  pending_ += tokenizer_->IdToBytes(id);
  pending_.erase(0, AppendReplacingInvalidUtf8(pending_, /*final=*/false, &out));
  return out;
}

std::string Detokenizer::Flush() {
  std::string out;
  AppendReplacingInvalidUtf8(pending_, /*final=*/true, &out);
  pending_.clear();
  return out;
}

}  // namespace fulger
