#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "base/check.h"
#include "coordinator/image/data_url.h"
#include "coordinator/image/decode.h"
#include "model/checkpoint/safetensors.h"
#include "model/config.h"
#include "model/picture/processor_config.h"
#include "model/tensors.h"
#include "tests/fuzz/fuzz_target.h"

namespace fulger {

// Every tensor of a file that was accepted lies inside it.
void FuzzSafetensors(std::string_view bytes) {
  const int fd = memfd_create("fuzz.safetensors", 0);
  FULGER_CHECK(fd >= 0 && write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
               "cannot write to memory");
  const auto file = SafetensorsFile::Open("/proc/self/fd/" + std::to_string(fd));
  close(fd);
  if (!file.ok()) return;
  uint64_t covered = 0;
  for (const StoredTensor& tensor : file->tensors()) {
    FULGER_CHECK(tensor.begin >= 8 && tensor.begin <= tensor.end && tensor.end <= bytes.size(),
                 "tensor {} at {}..{} of {} bytes", tensor.name, tensor.begin, tensor.end, bytes.size());
    covered += tensor.bytes();
  }
  FULGER_CHECK(covered <= bytes.size(), "{} bytes of tensors in a file of {}", covered, bytes.size());
}

void FuzzConfig(std::string_view bytes) {
  const auto config = ParseModelConfig(bytes);
  if (config.ok() && config->text.layers() * config->text.experts < 4096) (void)TensorTable(*config);
  (void)ParseImageProcessorConfig(bytes, "preprocessor_config.json");
}

// A picture that decodes has the size that its header promised.
void FuzzImage(std::string_view bytes) {
  const ImageLimits limits{.max_bytes = 1 << 20, .max_pixels = 1 << 20, .max_side = 4096};
  const auto header = ProbeImage(bytes, limits);
  const auto image = DecodeImage(bytes, limits);
  if (!header.ok()) FULGER_CHECK(!image.ok(), "decoded what was refused: {}", Message(header.status()));
  if (!image.ok()) {
    FULGER_CHECK(image.status().code() == absl::StatusCode::kInvalidArgument, "{}", Message(image.status()));
    return;
  }
  FULGER_CHECK(image->size.height == header->size().height && image->size.width == header->size().width,
               "a header of {}x{}, a picture of {}x{}", header->size().height, header->size().width,
               image->size.height, image->size.width);
}

void FuzzDataUrl(std::string_view bytes) {
  (void)IsDataUrl(bytes);
  const auto url = ParseDataUrl(bytes, 1 << 16);
  if (url.ok()) FULGER_CHECK(url->bytes.size() <= 1 << 16, "{} bytes", url->bytes.size());
  const auto plain = DecodeBase64(bytes);
  if (plain.ok()) {
    FULGER_CHECK(plain->size() <= bytes.size() / 4 * 3, "{} bytes of {}", plain->size(), bytes.size());
  }
}

}  // namespace fulger
