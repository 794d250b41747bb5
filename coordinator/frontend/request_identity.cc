#include "coordinator/frontend/request_identity.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <string_view>

#include "base/sha256.h"

namespace fulger {
namespace {

// Each field with its length, so that no two sequences of fields are the same bytes.
class Digest {
 public:
  Digest& Add(std::string_view text) {
    const uint64_t size = text.size();
    hash_.Update(std::as_bytes(std::span(&size, 1)));
    hash_.Update(text);
    return *this;
  }
  Digest& Add(int64_t number) {
    hash_.Update(std::as_bytes(std::span(&number, 1)));
    return *this;
  }
  std::string Hex() { return hash_.HexDigest(); }

 private:
  Sha256 hash_;
};

// Maps in one order.
std::string Serialised(const v1::SamplingParams& sampling) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    sampling.SerializeToCodedStream(&coded);
  }
  return bytes;
}

void AddForm(const AnswerForm& form, Digest* digest) {
  digest->Add(static_cast<int64_t>(form.kind)).Add(form.schema).Add(form.several).Add(form.text);
  for (const AnswerForm::Tool& tool : form.tools) digest->Add(tool.name).Add(tool.schema);
}

}  // namespace

std::string RequestIdentity(const GenerateInput& input, std::span<const int32_t> prompt,
                            std::span<const ImageSpan> images) {
  Digest digest;
  digest.Add(input.client.name);
  digest.Add({reinterpret_cast<const char*>(prompt.data()), prompt.size_bytes()});
  for (const ImageSpan& span : images) digest.Add(span.position).Add(span.image->key);
  digest.Add(Serialised(input.sampling));
  digest.Add(input.seed.has_value()).Add(static_cast<int64_t>(input.seed.value_or(0)));
  digest.Add(input.ignore_eos).Add(input.include_stop).Add(input.skip_special_tokens);
  digest.Add(std::ssize(input.stop));
  for (const std::string& stop : input.stop) digest.Add(stop);
  digest.Add(input.form.has_value());
  if (input.form) AddForm(*input.form, &digest);
  return digest.Hex();
}

}  // namespace fulger
