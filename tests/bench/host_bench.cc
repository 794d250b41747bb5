// fulger-host-bench: the work around the model, one repetition per line of standard input, so that a script
// can take turns between us and a peer on the same input (tests/bench/bench.py does). Prints a line of JSON
// when ready and one after each repetition; ends with its input.
//
//   fulger-host-bench tokenizer --tokenizer FILE --text FILE [--ids FILE]   text to ids, one thread
//   fulger-host-bench picture --jpeg FILE [--tiles FILE]                    a JPEG to normalised tiles, one
//   thread fulger-host-bench load --dir DIR --threads N                            a checkpoint into memory,
//   and the
//                                                                           page cache's own read rate beside
//                                                                           it
#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "coordinator/image/decode.h"
#include "coordinator/image/tiles.h"
#include "coordinator/text/tokenizer.h"
#include "kernels/device/device.h"
#include "kernels/ops/ops.h"
#include "model/checkpoint/checkpoint.h"
#include "model/picture/processor_config.h"
#include "model/shards/manifest.h"
#include "tests/support/plan_builder.h"
#include "tests/support/thread_replica.h"
#include "worker/weights/loader.h"

namespace fulger {
namespace {

using Json = nlohmann::json;

class Stopwatch {
 public:
  // Since the last call, or since construction.
  double Lap() {
    const TimePoint now = std::chrono::steady_clock::now();
    return Seconds(now - std::exchange(last_, now));
  }

 private:
  TimePoint last_ = std::chrono::steady_clock::now();
};

void Say(const Json& line) { std::cout << line.dump() << std::endl; }

absl::Status RepeatPerLine(const Json& about, const std::function<absl::StatusOr<Json>()>& once) {
  Say(about);
  for (std::string line; std::getline(std::cin, line);) {
    ASSIGN_OR_RETURN(const Json result, once());
    Say(result);
  }
  return absl::OkStatus();
}

absl::Status WriteBytes(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return out.flush() ? absl::OkStatus() : Unavailable("{}: cannot be written", path);
}

// As prompts come: added tokens are recognised, as the peer does.
absl::Status Tokenize(const std::string& tokenizer_file, const std::string& text_file,
                      const std::string& ids_file) {
  ASSIGN_OR_RETURN(const std::string json, ReadFile(tokenizer_file, uint64_t{1} << 30));
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Parse(json));
  ASSIGN_OR_RETURN(const std::string text, ReadFile(text_file, uint64_t{1} << 30));
  ASSIGN_OR_RETURN(const std::vector<int32_t> first, tokenizer.Encode(text, AddedTokens::kParse));
  if (!ids_file.empty()) RETURN_IF_ERROR(WriteBytes(ids_file, std::as_bytes(std::span(first))));
  return RepeatPerLine(
      {{"bytes", text.size()}, {"ids", first.size()}, {"vocabulary", tokenizer.vocab_size()}},
      [&]() -> absl::StatusOr<Json> {
        Stopwatch watch;
        ASSIGN_OR_RETURN(const auto ids, tokenizer.Encode(text, AddedTokens::kParse));
        const double seconds = watch.Lap();
        if (ids != first) return Internal("other ids than the first time");
        return Json{{"seconds", seconds}};
      });
}

// The coordinator's part (decode, tiles) and the vision rank's (normalise), which together make what the
// reference calls pixel_values. `tiles_file` gets the uint8 tiles.
absl::Status PreparePicture(const std::string& jpeg_file, const std::string& tiles_file) {
  ASSIGN_OR_RETURN(const std::string jpeg, ReadFile(jpeg_file));
  const ImageProcessorConfig config = DefaultImageProcessorConfig();
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, MakeDevice("cpu", DeviceOptions{.threads = 1}));
  std::vector<float> normalised;
  const auto once = [&](Json* result) -> absl::StatusOr<ImageTiles> {
    Stopwatch watch;
    ASSIGN_OR_RETURN(const RgbImage image, DecodeImage(jpeg, ImageLimits{}));
    (*result)["decode"] = watch.Lap();
    ASSIGN_OR_RETURN(ImageTiles tiles, MakeTiles(image, config));
    (*result)["tiles"] = watch.Lap();
    const int64_t count = tiles.grid.tile_count();
    const int64_t side = config.tile_size;
    const int64_t grid = side / config.patch_size;
    const int64_t patch = 3 * config.patch_size * config.patch_size;
    normalised.resize(static_cast<size_t>(count * grid * grid * patch));
    PatchifyArgs args;
    args.tiles = TensorView(tiles.pixels.data(), DType::kU8, {count, side, side, 3});
    args.patch = config.patch_size;
    std::ranges::copy(config.mean, args.mean.begin());
    std::ranges::copy(config.std, args.std.begin());
    args.out = MutTensorView(normalised.data(), DType::kF32, {count * grid * grid, patch});
    RETURN_IF_ERROR(device->ops().Patchify(device->stream(), args));
    (*result)["normalise"] = watch.Lap();
    return tiles;
  };
  Json ignored;
  ASSIGN_OR_RETURN(const ImageTiles tiles, once(&ignored));
  if (!tiles_file.empty()) RETURN_IF_ERROR(WriteBytes(tiles_file, std::as_bytes(std::span(tiles.pixels))));
  return RepeatPerLine({{"tiles", tiles.grid.tile_count()}}, [&]() -> absl::StatusOr<Json> {
    Json result;
    Stopwatch watch;
    RETURN_IF_ERROR(once(&result).status());
    result["seconds"] = watch.Lap();
    return result;
  });
}

// Bytes per second at which `threads` threads read the files from the page cache: into a buffer of 1 MiB each
// that stays in the cache (`into` null), or into `into`, which has room for all of them.
absl::StatusOr<double> PageCacheRate(const Checkpoint& checkpoint, int threads, std::byte* into) {
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  struct Part {
    const File* file;
    uint64_t offset;
    uint64_t bytes;
    uint64_t place;
  };
  std::vector<Part> parts;
  uint64_t total = 0;
  for (const SafetensorsFile& shard : checkpoint.files()) {
    for (uint64_t at = 0; at < shard.file().size(); at += kPiece) {
      parts.push_back({&shard.file(), at, std::min(kPiece, shard.file().size() - at), total});
      total += parts.back().bytes;
    }
  }
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  Stopwatch watch;
  {
    std::vector<std::jthread> pool;
    for (int t = 0; t < threads; ++t) {
      pool.emplace_back([&] {
        std::vector<std::byte> buffer(kPiece);
        for (size_t i = next++; i < parts.size(); i = next++) {
          std::byte* to = into == nullptr ? buffer.data() : into + parts[i].place;
          if (!parts[i].file->ReadAt(parts[i].offset, {to, parts[i].bytes}).ok()) failed = true;
        }
      });
    }
  }
  if (failed) return Unavailable("reading the checkpoint's files");
  return static_cast<double>(total) / watch.Lap();
}

// The same into memory that is allocated for it, as a loader must.
absl::StatusOr<double> PageCacheRateNew(const Checkpoint& checkpoint, int threads, Device& device) {
  uint64_t bytes = 0;
  for (const SafetensorsFile& shard : checkpoint.files()) bytes += shard.file().size();
  ASSIGN_OR_RETURN(const Buffer memory, device.Allocate(bytes));
  return PageCacheRate(checkpoint, threads, static_cast<std::byte*>(memory.data()));
}

absl::Status Load(const std::string& dir, int threads) {
  ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(dir));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(dir, config));
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(config, Layout{}));
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device,
                   MakeDevice("cpu", DeviceOptions{.threads = threads}));
  // Brings the files into the cache.
  RETURN_IF_ERROR(PageCacheRate(checkpoint, threads, nullptr).status());
  return RepeatPerLine({{"threads", threads}}, [&]() -> absl::StatusOr<Json> {
    ASSIGN_OR_RETURN(const double warm, PageCacheRate(checkpoint, threads, nullptr));
    ASSIGN_OR_RETURN(const double fresh, PageCacheRateNew(checkpoint, threads, *device));
    LoadStats stats;
    {
      ASSIGN_OR_RETURN(const WeightStore store, LoadWeights(checkpoint, plan.ranks[0], *device,
                                                            LoadOptions{.threads = threads}, &stats));
    }
    return Json{{"bytes", stats.bytes_used},
                {"rate", static_cast<double>(stats.bytes_used) / stats.seconds},
                {"limit_warm", warm},
                {"limit_new", fresh}};
  });
}

// One rank's file of a copy into memory, with and without its checksums, in turn.
absl::Status LoadCopy(const std::string& dir, int threads) {
  ASSIGN_OR_RETURN(const ShardedCopy copy, OpenSharded(dir));
  ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> source, OpenWeights(dir, copy.config, copy.plan, 0));
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device,
                   MakeDevice("cpu", DeviceOptions{.threads = threads}));
  const auto rate = [&](bool verify) -> absl::StatusOr<double> {
    LoadStats stats;
    ASSIGN_OR_RETURN(const WeightStore store,
                     LoadWeights(*source, copy.plan.ranks[0], *device,
                                 LoadOptions{.threads = threads, .verify = verify}, &stats));
    return static_cast<double>(stats.bytes_used) / stats.seconds;
  };
  RETURN_IF_ERROR(rate(false).status());  // brings the file into the cache
  return RepeatPerLine({{"threads", threads}}, [&]() -> absl::StatusOr<Json> {
    ASSIGN_OR_RETURN(const double checked, rate(true));
    ASSIGN_OR_RETURN(const double unchecked, rate(false));
    return Json{{"checked", checked}, {"unchecked", unchecked}, {"ratio", checked / unchecked}};
  });
}

class LogitsWriter final : public LogitsObserver {
 public:
  explicit LogitsWriter(const std::string& path) : out_(path, std::ios::binary) {}
  void OnLogits(uint64_t, int64_t, std::span<const float> logits) override {
    out_.write(reinterpret_cast<const char*>(logits.data()),
               static_cast<std::streamsize>(logits.size_bytes()));
  }
  bool Finish() { return static_cast<bool>(out_.flush()); }

 private:
  std::ofstream out_;
};

// The logits after each of `ids`, float32 [ids, vocabulary]: what a peer that is measured must give too.
absl::Status WriteLogits(const std::string& dir, const std::vector<int32_t>& ids, int threads,
                         const std::string& path) {
  LogitsWriter writer(path);
  ThreadReplicaOptions options;
  options.weights_as_f32 = false;
  options.make_device = [threads] { return MakeDevice("cpu", DeviceOptions{.threads = threads}); };
  options.logits = &writer;
  ASSIGN_OR_RETURN(const auto replica, ThreadReplica::Start(dir, Layout{}, options));
  PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
  DriverRequest request{.id = 1, .prompt = ids, .pictures = {}, .sampling = {}};
  request.sampling.set_max_tokens(1);
  RETURN_IF_ERROR(driver.Run({request}).status());
  return writer.Finish() ? absl::OkStatus() : Unavailable("{}: cannot be written", path);
}

int Main(int argc, char** argv) {
  CLI::App app("The work around the model, one repetition per line of standard input", "fulger-host-bench");
  app.require_subcommand(1);
  std::string input, model, output;
  int threads = 2;
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "text to ids");
  tokenizer->add_option("--tokenizer", model, "tokenizer.json")->required();
  tokenizer->add_option("--text", input, "UTF-8 text")->required();
  tokenizer->add_option("--ids", output, "where to write the ids (int32)");
  CLI::App* picture = app.add_subcommand("picture", "a JPEG to normalised tiles");
  picture->add_option("--jpeg", input, "the picture")->required();
  picture->add_option("--tiles", output, "where to write the tiles (uint8)");
  CLI::App* load = app.add_subcommand("load", "a checkpoint into memory");
  load->add_option("--dir", input, "the checkpoint")->required();
  load->add_option("--threads", threads, "readers")->capture_default_str();
  CLI::App* load_copy = app.add_subcommand("load-copy", "rank 0 of a copy into memory, checked and not");
  load_copy->add_option("--dir", input, "what fulger shard wrote")->required();
  load_copy->add_option("--threads", threads, "readers")->capture_default_str();
  std::vector<int32_t> ids;
  CLI::App* logits = app.add_subcommand("logits", "the logits after each of some ids");
  logits->add_option("--dir", input, "the checkpoint")->required();
  logits->add_option("--ids", ids, "a,b,...")->required()->delimiter(',');
  logits->add_option("--out", output, "where to write them (float32)")->required();
  logits->add_option("--threads", threads, "compute threads")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = *tokenizer   ? Tokenize(model, input, output)
                              : *picture   ? PreparePicture(input, output)
                              : *logits    ? WriteLogits(input, ids, threads, output)
                              : *load_copy ? LoadCopy(input, threads)
                                           : Load(input, threads);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) { return fulger::Main(argc, argv); }
