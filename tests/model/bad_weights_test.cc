// NaN or infinity in a weight ends the request with an error that names the layer, and never gives a token;
// in the vision tower it ends the picture.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>

#include "tests/model/golden_run.h"
#include "tests/support/golden_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kBad[] = {kNaN, kInfinity, -kInfinity};

// Another value in one float of the checkpoint's file, for as long as it lives.
class Poison {
 public:
  Poison(const GoldenCheckpoint& checkpoint, const std::string& tensor, float value, int64_t element = 0)
      : path_(checkpoint.dir() + "/model.safetensors") {
    const auto file = SafetensorsFile::Open(path_);
    FULGER_CHECK(file.ok(), "{}", Message(file.status()));
    const StoredTensor* entry = file->Find(tensor);
    FULGER_CHECK(entry != nullptr, "no tensor {}", tensor);
    offset_ = static_cast<long>(entry->begin) + 4 * static_cast<long>(element);
    Swap(&value);
    before_ = value;
  }
  Poison(const Poison&) = delete;
  Poison& operator=(const Poison&) = delete;
  ~Poison() { Swap(&before_); }

 private:
  // Writes *value; *value is then what was there.
  void Swap(float* value) const {
    std::FILE* f = std::fopen(path_.c_str(), "r+b");
    float old = 0;
    FULGER_CHECK(f != nullptr && std::fseek(f, offset_, SEEK_SET) == 0 && std::fread(&old, 4, 1, f) == 1 &&
                     std::fseek(f, offset_, SEEK_SET) == 0 && std::fwrite(value, 4, 1, f) == 1 &&
                     std::fclose(f) == 0,
                 "{}", path_);
    *value = old;
  }

  std::string path_;
  long offset_ = 0;
  float before_ = 0;
};

absl::Status RunOnce(const GoldenCheckpoint& checkpoint, const Layout& layout) {
  ThreadReplicaOptions options;
  ASSIGN_OR_RETURN(auto replica, ThreadReplica::Start(checkpoint.dir(), layout, options));
  PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
  ASSIGN_OR_RETURN(const DriverRequest request, checkpoint.Request(1, 16));
  return driver.Run({request}).status();
}

struct Poisoned {
  std::string tensor, expected;
};

// Every kind of weight of the language model. Layer 5 is lightning, layer 7 softmax. Each rank has some of
// the bad element's row or none.
TEST(BadWeights, EndTheRequestWithTheLayersName) {
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make("g2_text"));
  ASSERT_OK_AND_ASSIGN(const DriverRequest request, checkpoint->Request(1));
  const std::string five = "language_model.model.layers.5.", seven = "language_model.model.layers.7.";
  std::vector<Poisoned> cases = {{"language_model.model.norm.weight", "lm_head"},
                                 {"language_model.lm_head.weight", "lm_head"}};
  for (const char* name : {"input_layernorm", "self_attn.qkv_proj", "self_attn.output_gate", "self_attn.norm",
                           "self_attn.out_proj"}) {
    cases.push_back({five + name + ".weight", "layer 5 attention: NaN or infinity"});
  }
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    cases.push_back({seven + "self_attn." + name + ".weight", "layer 7 attention: NaN or infinity"});
  }
  for (const char* name :
       {"post_attention_layernorm", "block_sparse_moe.gate", "block_sparse_moe.experts.0.w1",
        "block_sparse_moe.experts.0.w2", "block_sparse_moe.experts.0.w3"}) {
    cases.push_back({five + name + ".weight", "layer 5 experts: NaN or infinity"});
  }
  for (const Poisoned& p : cases) {
    for (const float bad : kBad) {
      const Poison poison(*checkpoint, p.tensor, bad);
      EXPECT_THAT(RunOnce(*checkpoint, Layout{}),
                  StatusIs(absl::StatusCode::kDataLoss, HasSubstr(p.expected)))
          << p.tensor << " " << bad;
    }
  }
  // The embedding of the prompt's first token.
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadModelConfig(checkpoint->dir()));
  for (const float bad : kBad) {
    const Poison poison(*checkpoint, "language_model.model.embed_tokens.weight", bad,
                        request.prompt[0] * config.text.hidden);
    EXPECT_THAT(RunOnce(*checkpoint, Layout{}),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("embedding: NaN or infinity")))
        << bad;
  }
  EXPECT_OK(RunOnce(*checkpoint, Layout{}));  // all is as it was
}

// Over stages and ranks, where the note travels; and to probe steps.
TEST(BadWeights, AreNamedInEveryLayoutAndByProbes) {
  struct Probed : Poisoned {
    bool probed = true;  // a probe's row attends to nothing, so it does not see keys
  };
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make("g2_text"));
  for (const Probed& p :
       {Probed{{"language_model.model.layers.5.self_attn.out_proj.weight", "layer 5 attention"}},
        Probed{{"language_model.model.layers.7.self_attn.k_proj.weight", "layer 7 attention"}, false},
        Probed{{"language_model.lm_head.weight", "lm_head"}}}) {
    for (const float bad : kBad) {
      const Poison poison(*checkpoint, p.tensor, bad);
      for (const Layout& layout : {Layout{}, Layout{.pp = 4, .tp = 2}}) {
        ThreadReplicaOptions options;
        ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(checkpoint->dir(), layout, options));
        PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
        ASSERT_OK_AND_ASSIGN(const v1::StepResult probe, driver.Probe());
        ASSERT_EQ(probe.errors_size(), p.probed ? 1 : 0) << p.tensor << ", " << ToString(layout);
        if (p.probed) {
          EXPECT_THAT(probe.errors(0).message(), HasSubstr(p.expected)) << ToString(layout);
        }
        ASSERT_OK_AND_ASSIGN(const DriverRequest request, checkpoint->Request(1, 16));
        EXPECT_THAT(driver.Run({request}).status(),
                    StatusIs(absl::StatusCode::kDataLoss, HasSubstr(p.expected)))
            << p.tensor << " " << bad << ", " << ToString(layout);
      }
    }
  }
}

// The picture ends with the name of the tower's part; its features are not kept, and the rank goes on. The
// engine ends the requests that need it (engine_core_test).
TEST(BadWeights, OfTheVisionTowerEndThePictureWithTheLayersName) {
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make("g2_image_middle"));
  const std::string tower = "vision_tower.vision_model.", layer = tower + "encoder.layers.1.";
  std::vector<Poisoned> cases = {{tower + "embeddings.class_embedding", "vision embedding: "},
                                 {tower + "embeddings.patch_embedding.weight", "vision embedding: "},
                                 {tower + "embeddings.position_embedding.weight", "vision embedding: "},
                                 {tower + "pre_layrnorm.weight", "vision embedding: "},
                                 {tower + "pre_layrnorm.bias", "vision embedding: "},
                                 {"multi_modal_projector.linear_1.weight", "projector: "},
                                 {"multi_modal_projector.linear_2.bias", "projector: "},
                                 {"image_newline", "image_newline: "}};
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj",
                           "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"}) {
    cases.push_back({layer + name + ".weight", "vision layer 1: "});
    cases.push_back({layer + name + ".bias", "vision layer 1: "});
  }
  ThreadReplicaOptions options;
  for (const Poisoned& p : cases) {
    for (const float bad : kBad) {
      const Poison poison(*checkpoint, p.tensor, bad);
      // On one rank; and on two that encode every second tile each.
      for (const Layout& layout : {Layout{}, Layout{.tp = 2}}) {
        ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(checkpoint->dir(), layout, options));
        EXPECT_THAT(
            checkpoint->Encode(*replica),
            StatusIs(absl::StatusCode::kDataLoss,
                     StartsWith(p.expected + "NaN or infinity in weights or activations (feature row ")))
            << p.tensor << " " << bad << ", " << ToString(layout);
        if (bad != kInfinity) break;
      }
    }
  }
}

}  // namespace
}  // namespace fulger
