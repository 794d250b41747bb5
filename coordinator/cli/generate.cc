// fulger generate: one answer without a server, by the same engine.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"
#include "base/file.h"
#include "base/log.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/deployment.h"
#include "coordinator/frontend/frontend.h"

namespace fulger {
namespace {

constexpr auto kStartDeadline = std::chrono::hours(1);  // the phases have their own
constexpr size_t kQueuedDeltas = size_t{1} << 20;       // more than any answer is long

struct GenerateFlags {
  DeploymentFlags deployment;
  std::string prompt;
  std::vector<std::string> images;
  bool raw = false;
  bool json = false;
  int max_tokens = 0;
  float temperature = 1, top_p = 1, min_p = 0;
  int top_k = 0;
  std::vector<std::string> stop;
  std::optional<uint64_t> seed;
};

absl::StatusOr<GenerateInput> MakeInput(const GenerateFlags& flags) {
  GenerateInput input;
  input.id = "generate";
  if (flags.raw) {
    if (!flags.images.empty()) return InvalidArgument("--image needs the chat form: leave --raw out");
    input.text = flags.prompt;
  } else {
    PromptMessage message{.role = "user", .parts = {}, .name = {}, .tool_calls = {}};
    for (const std::string& path : flags.images) {
      ASSIGN_OR_RETURN(std::string bytes, ReadFile(path, uint64_t{64} << 20));
      message.parts.push_back({.kind = PromptPart::Kind::kImage, .text = {}, .image = std::move(bytes)});
    }
    message.parts.push_back({.kind = PromptPart::Kind::kText, .text = flags.prompt, .image = {}});
    input.messages.push_back(std::move(message));
  }
  input.sampling.set_temperature(flags.temperature);
  input.sampling.set_top_p(flags.top_p);
  input.sampling.set_top_k(flags.top_k);
  input.sampling.set_min_p(flags.min_p);
  input.sampling.set_repetition_penalty(1);
  input.sampling.set_logprobs(-1);
  input.sampling.set_max_tokens(flags.max_tokens);
  input.stop = flags.stop;
  input.seed = flags.seed;
  return input;
}

struct Answer {
  std::string text;
  std::vector<int32_t> ids;
  TextResult result;
};

// Prints deltas as they come; the engine thread only queues them. A replica that gives up ends the wait.
absl::StatusOr<Answer> Collect(Deployment& deployment, Frontend& frontend, GenerateInput input, bool print) {
  BoundedQueue<TextDelta> deltas(kQueuedDeltas);
  Answer answer;
  TextHandlers handlers;
  handlers.on_delta = [&](TextDelta&& delta) {
    deltas.TryPush(std::move(delta));
    return true;
  };
  handlers.on_done = [&](const TextResult& result) {
    answer.result = result;
    deltas.Close();
  };
  const std::string id = input.id;
  RETURN_IF_ERROR(frontend.Generate(std::move(input), std::move(handlers)));
  absl::Status health;
  while (true) {
    std::optional<TextDelta> delta = deltas.PopFor(std::chrono::seconds(1));
    if (!delta.has_value()) {
      if (deltas.closed()) break;
      if (health.ok() && !(health = deployment.health()).ok()) frontend.Cancel(id);
      continue;
    }
    if (delta->id >= 0) answer.ids.push_back(delta->id);
    answer.text += delta->text;
    if (!print) continue;
    std::fwrite(delta->text.data(), 1, delta->text.size(), stdout);
    std::fflush(stdout);
  }
  RETURN_IF_ERROR(health);
  RETURN_IF_ERROR(answer.result.error);
  return answer;
}

void PrintJson(const Answer& answer) {
  const nlohmann::ordered_json json = {{"text", answer.text},
                                       {"ids", answer.ids},
                                       {"finish_reason", answer.result.finish_reason},
                                       {"prompt_tokens", answer.result.prompt_tokens},
                                       {"completion_tokens", answer.result.completion_tokens},
                                       {"image_tokens", answer.result.image_tokens}};
  std::printf("%s\n", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

absl::Status Generate(const GenerateFlags& flags) {
  ASSIGN_OR_RETURN(GenerateInput input, MakeInput(flags));
  ASSIGN_OR_RETURN(auto deployment, Deployment::Create(flags.deployment, nullptr));
  FrontendOptions options{.model_dir = flags.deployment.model_dir,
                          .model_name = deployment->flags().model_name,
                          .chat_template = flags.deployment.chat_template,
                          .max_context = deployment->budget().max_context};
  ASSIGN_OR_RETURN(const auto frontend, MakeFrontend(options, &deployment->engine()));
  RETURN_IF_ERROR(deployment->Start());
  RETURN_IF_ERROR(deployment->WaitUntilServing(kStartDeadline));
  const auto answer = Collect(*deployment, *frontend, std::move(input), !flags.json);
  deployment->engine().Drain(std::chrono::seconds(0));
  deployment->Stop("done");
  if (!answer.ok()) return answer.status();
  if (flags.json) {
    PrintJson(*answer);
  } else {
    std::printf("\n");
  }
  return absl::OkStatus();
}

}  // namespace

void AddGenerate(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = app->add_subcommand("generate", "answer one prompt without a server");
  AddDeploymentFlags(command, &flags->deployment, "warn");
  command->add_option("--prompt", flags->prompt, "the question")->required();
  command->add_option("--image", flags->images, "picture before the question; may be repeated");
  command->add_flag("--raw", flags->raw, "continue the prompt as it is, without the chat form");
  command->add_flag("--json", flags->json, "print one JSON object at the end");
  command->add_option("--max-tokens", flags->max_tokens, "0: all the context that is left")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--temperature", flags->temperature, "0: greedy")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--top-p", flags->top_p, "1: off")->check(CLI::Range(0.0, 1.0))->capture_default_str();
  command->add_option("--top-k", flags->top_k, "0: off")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--min-p", flags->min_p, "0: off")->check(CLI::Range(0.0, 1.0))->capture_default_str();
  command->add_option("--stop", flags->stop, "end before this text; may be repeated");
  command->add_option("--seed", flags->seed, "the same seed draws the same tokens");
  command->footer("--config FILE reads the same flags from a file, one \"name = value\" per line.");
  command->callback([flags, exit_code] {
    StartLogging(flags->deployment);
    const absl::Status status = Generate(*flags);
    if (!status.ok()) std::fprintf(stderr, "fulger generate: %s\n", Message(status).c_str());
    *exit_code = status.ok() ? 0 : 1;
  });
}

}  // namespace fulger
