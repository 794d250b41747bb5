// Real layers that stop amid answers and go on in other ranks, from what those wrote: tokens and log
// probabilities are those of ranks that never stopped, bit for bit, in several layouts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coordinator/engine/engine.h"
#include "coordinator/engine/engine_test_util.h"
#include "tests/model/golden_run.h"
#include "tests/support/status_matchers.h"
#include "tests/support/thread_backend.h"

namespace fulger {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Tokens with their log probabilities, and the five best of each.
class Recorder final : public ResponseSink {
 public:
  struct Entry {
    int32_t id = 0;
    float logprob = 0;
    std::vector<std::pair<int32_t, float>> top;
    bool operator==(const Entry&) const = default;
  };
  Next OnToken(const Token& token) override {
    std::lock_guard lock(mu_);
    entries_.push_back(
        {.id = token.id, .logprob = token.logprob, .top = {token.top.begin(), token.top.end()}});
    return Next::kContinue;
  }
  void OnDone(const Completion& completion) override { sink_.OnDone(completion); }
  std::vector<Entry> entries() const {
    std::lock_guard lock(mu_);
    return entries_;
  }
  Completion Wait() const { return sink_.Wait(); }

 private:
  mutable std::mutex mu_;
  std::vector<Entry> entries_;
  RecordingSink sink_;
};

std::ostream& operator<<(std::ostream& out, const Recorder::Entry& entry) {
  return out << entry.id << " (" << entry.logprob << ")";
}

// Ranks and an engine: a process that ends and another that begins.
struct Server {
  Server(const std::string& dir, const Layout& layout) {
    ThreadReplicaOptions options;
    backend = std::make_unique<ThreadBackend>(dir, layout, options);
    engine = Engine::Create({.max_running_requests = 4,
                             .anchors = 4,
                             .anchor_rules = {.interval = 128, .min_gap = 16},
                             .max_step_tokens = 512},
                            {backend.get()}, &clock);
  }
  ~Server() {
    backend.reset();  // its threads call the engine
    engine.reset();
  }
  absl::Status Up() { return backend->Up(engine->Events(0)); }
  std::shared_ptr<Recorder> Submit(EngineRequest request) {
    auto sink = std::make_shared<Recorder>();
    EXPECT_OK(engine->Submit(std::move(request), sink));
    return sink;
  }

  SteadyClock clock;
  std::unique_ptr<ThreadBackend> backend;
  std::unique_ptr<Engine> engine;
};

class SuspendTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "fulger_suspend_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Make(const std::string& case_name) {
    checkpoint_.reset();  // its folder may have the same name
    ASSERT_OK_AND_ASSIGN(checkpoint_, GoldenCheckpoint::Make(case_name));
    ASSERT_OK_AND_ASSIGN(config_, LoadModelConfig(checkpoint_->dir()));
  }
  EngineRequest Request(float temperature = 0) {
    const auto made = checkpoint_->Request(1);
    EXPECT_OK(made.status());
    EngineRequest request = MakeRequest("r", made->prompt, made->sampling.max_tokens());
    request.identity = "r";
    request.sampling.set_logprobs(5);
    request.sampling.set_temperature(temperature);
    request.sampling.set_top_p(1);
    request.sampling.set_frequency_penalty(temperature / 2);
    if (!made->pictures.empty()) {
      request.images = GoldenImages(checkpoint_->golden(), *made, config_.vision->image_size);
    }
    return request;
  }
  // Encodes the pictures, which come when they come: a prompt is cut where one is not there yet, and the last
  // bits of what follows depend on the cuts.
  void EncodePictures(Server* server) {
    EngineRequest request = Request();
    if (request.images.empty()) return;
    request.sampling.set_max_tokens(1);
    request.use_anchors = false;
    EXPECT_OK(server->Submit(std::move(request))->Wait().error);
  }
  // What a server that stops after so many tokens saves.
  v1::SavedRequest Stop(Server* server, EngineRequest request, size_t tokens) {
    const auto sink = server->Submit(std::move(request));
    while (sink->entries().size() < tokens) std::this_thread::yield();
    server->engine->Settle(Duration(0));
    auto saved = server->engine->Suspend(folder_, std::chrono::minutes(1));
    EXPECT_EQ(saved.size(), 1u) << "it had ended";
    return saved.empty() ? v1::SavedRequest() : std::move(saved[0]);
  }
  static EngineRequest Resumed(EngineRequest request, v1::SavedRequest saved, const std::string& folder) {
    saved.mutable_state()->set_id(1);
    saved.mutable_state()->set_folder(folder);
    request.saved = std::make_shared<const v1::SavedRequest>(std::move(saved));
    return request;
  }

  std::string folder_;
  std::unique_ptr<GoldenCheckpoint> checkpoint_;
  ModelConfig config_;
};

TEST_F(SuspendTest, TheRestIsTheSameBitForBit) {
  const struct {
    Layout layout;
    const char* name;
    float temperature;
  } cases[] = {{Layout{}, "g2_text", 0},
               {Layout{.tp = 2}, "g2_long", 1},
               {Layout{.pp = 2}, "g2_image_middle", 0},
               {Layout{.tp = 2, .ep = 2}, "g2_text", 1},
               {Layout{.pp = 2, .tp = 2, .vision = 1}, "g2_images", 1}};
  for (const auto& [layout, name, temperature] : cases) {
    SCOPED_TRACE(fmt::format("{}, {}", ToString(layout), name));
    Make(name);
    std::vector<Recorder::Entry> expected;
    {
      Server whole(checkpoint_->dir(), layout);
      ASSERT_OK(whole.Up());
      EncodePictures(&whole);
      const auto sink = whole.Submit(Request(temperature));
      ASSERT_OK(sink->Wait().error);
      expected = sink->entries();
    }
    ASSERT_EQ(expected.size(), 64u);
    v1::SavedRequest saved;
    {
      Server first(checkpoint_->dir(), layout);
      ASSERT_OK(first.Up());
      EncodePictures(&first);
      saved = Stop(&first, Request(temperature), 9);
    }
    ASSERT_TRUE(saved.has_state());
    EXPECT_EQ(saved.state().pieces_size(), layout.pp * layout.tp);
    EXPECT_GE(saved.tokens_size(), 9);
    Server second(checkpoint_->dir(), layout);
    ASSERT_OK(second.Up());
    const auto sink = second.Submit(Resumed(Request(temperature), saved, folder_));
    const Completion completion = sink->Wait();
    ASSERT_OK(completion.error);
    EXPECT_EQ(sink->entries(), expected);
    EXPECT_EQ(completion.completion_tokens, 64);
    // Of the prompt nothing was run, and no picture encoded.
    EXPECT_EQ(second.engine->Stats().pictures_encoded, 0u);
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
}

TEST_F(SuspendTest, DamagedCutOrMissingFilesAreToldAndComputedAgain) {
  Make("g2_text");
  const Layout layout{.pp = 2};
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> expected, checkpoint_->ExpectedTokens());
  v1::SavedRequest saved;
  {
    Server first(checkpoint_->dir(), layout);
    ASSERT_OK(first.Up());
    saved = Stop(&first, Request(), 9);
  }
  Server second(checkpoint_->dir(), layout);
  ASSERT_OK(second.Up());
  const std::string file = folder_ + "/replica-0-rank-1.state";
  const auto size = fs::file_size(file);
  for (const char* damage : {"a byte", "the end", "the file", "its size in the manifest"}) {
    SCOPED_TRACE(damage);
    const std::string other = folder_ + "/other";
    fs::remove_all(other);
    fs::create_directories(other);
    for (const char* rank : {"0", "1"}) {
      const std::string name = fmt::format("/replica-0-rank-{}.state", rank);
      fs::copy_file(folder_ + name, other + name);
    }
    v1::SavedRequest changed = saved;
    const std::string victim = other + "/replica-0-rank-1.state";
    if (damage == std::string("a byte")) {
      std::fstream stream(victim, std::ios::in | std::ios::out | std::ios::binary);
      stream.seekp(static_cast<std::streamoff>(size / 2));
      const int byte = stream.get();
      stream.seekp(static_cast<std::streamoff>(size / 2));
      stream.put(static_cast<char>(byte ^ 1));
    } else if (damage == std::string("the end")) {
      fs::resize_file(victim, size - 1);
    } else if (damage == std::string("the file")) {
      fs::remove(victim);
    } else {
      changed.mutable_state()->mutable_pieces(1)->set_bytes(saved.state().pieces(1).bytes() - 4);
    }
    const auto sink = second.Submit(Resumed(Request(), changed, other));
    ASSERT_OK(sink->Wait().error);
    std::vector<int32_t> tokens;
    for (const Recorder::Entry& entry : sink->entries()) tokens.push_back(entry.id);
    EXPECT_EQ(tokens, expected);
  }
}

TEST_F(SuspendTest, AFolderThatIsNotThereKeepsTheTokens) {
  Make("g2_text");
  Server first(checkpoint_->dir(), Layout{.tp = 2});
  ASSERT_OK(first.Up());
  const auto sink = first.Submit(Request());
  while (sink->entries().size() < 9) std::this_thread::yield();
  first.engine->Settle(Duration(0));
  const auto saved = first.engine->Suspend(folder_ + "/nowhere", std::chrono::minutes(1));
  ASSERT_EQ(saved.size(), 1u);
  EXPECT_FALSE(saved[0].has_state());
  EXPECT_GE(saved[0].tokens_size(), 9);
  EXPECT_THAT(sink->Wait().error, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("saved")));
}

}  // namespace
}  // namespace fulger
