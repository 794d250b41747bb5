// fulger cache explain: asks a server what it has of a prompt in its prefix cache, and why no more.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/conversation.h"
#include "coordinator/cli/http_client.h"

namespace fulger {
namespace {

struct CacheFlags {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  std::string prompt;
  std::string request;  // a file
};

absl::Status Explain(const CacheFlags& flags) {
  std::string body;
  if (!flags.request.empty()) {
    ASSIGN_OR_RETURN(body, ReadFile(flags.request));
  }
  ASSIGN_OR_RETURN(const CacheQuestion question, MakeCacheQuestion(body, flags.prompt));
  ASSIGN_OR_RETURN(const Url url, ParseUrl(flags.url));
  const HttpClient client(url, flags.api_key);
  ASSIGN_OR_RETURN(const ClientResponse response, client.Post(question.path, question.body));
  if (response.status != 200) {
    return Unavailable("the server answered {}: {}", response.status, ErrorText(response.body));
  }
  ASSIGN_OR_RETURN(const std::string text, CacheAnswerText(response.body));
  std::printf("%s\n", text.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddCache(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<CacheFlags>();
  CLI::App* cache = app->add_subcommand("cache", "the prefix cache of a server");
  cache->require_subcommand(1);
  CLI::App* command = cache->add_subcommand(
      "explain", "what of a prompt is cached, and why no more; runs the prompt for one token");
  command->add_option("--url", flags->url, "of the server, http or https")->capture_default_str();
  command->add_option("--api-key", flags->api_key, "bearer token");
  CLI::Option* prompt = command->add_option("--prompt", flags->prompt, "a question, as `chat` would ask it");
  command
      ->add_option(
          "--request", flags->request,
          "file with the body of a request: with messages for chat/completions, else for completions")
      ->excludes(prompt);
  command->callback([flags, exit_code] {
    const absl::Status status = Explain(*flags);
    if (!status.ok()) std::fprintf(stderr, "fulger cache: %s\n", Message(status).c_str());
    *exit_code = status.ok() ? 0 : 1;
  });
}

}  // namespace fulger
