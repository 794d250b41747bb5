// fulger chat: talks to a server, once or in turns.
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/cli/commands.h"
#include "coordinator/cli/conversation.h"
#include "coordinator/cli/http_client.h"

namespace fulger {
namespace {

struct ChatFlags {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  std::string prompt;
  std::vector<std::string> images;
  int max_tokens = 0;
  std::optional<double> temperature;
  std::optional<uint64_t> seed;
};

// Streams one answer to standard output and returns it.
absl::StatusOr<std::string> Ask(const HttpClient& client, const std::string& request) {
  std::string answer, error;
  bool done = false;
  EventParser events;
  const auto on_event = [&](std::string_view data) {
    if (data == "[DONE]") {
      done = true;
      return false;
    }
    ChatEvent event = ParseChatEvent(data);
    if (error.empty()) error = std::move(event.error);
    answer += event.text;
    std::fwrite(event.text.data(), 1, event.text.size(), stdout);
    std::fflush(stdout);
    return true;
  };
  ASSIGN_OR_RETURN(const ClientResponse response,
                   client.Post("/v1/chat/completions", request,
                               [&](std::string_view data) { return events.Feed(data, on_event); }));
  if (response.status != 200) {
    return Unavailable("the server answered {}: {}", response.status, ErrorText(response.body));
  }
  std::fputs("\n", stdout);
  std::fflush(stdout);
  if (!error.empty()) return Unavailable("{}", error);
  if (!done) return DataLoss("the answer ended early");
  return answer;
}

class Chat {
 public:
  Chat(const ChatFlags& flags, HttpClient client, std::string model)
      : flags_(flags), client_(std::move(client)), model_(std::move(model)) {}

  absl::Status Attach(const std::string& path) {
    ASSIGN_OR_RETURN(std::string url, PictureDataUrl(path));
    pictures_.push_back(std::move(url));
    return absl::OkStatus();
  }

  absl::Status Say(const std::string& text) {
    conversation_.AddUser(text, std::exchange(pictures_, {}));
    const auto answer =
        Ask(client_, conversation_.RequestJson(model_, flags_.max_tokens, flags_.temperature, flags_.seed));
    if (!answer.ok()) {
      conversation_.DropLast();
      return answer.status();
    }
    conversation_.AddAssistant(*answer);
    return absl::OkStatus();
  }

  void Talk() {
    const bool terminal = ::isatty(0) != 0;
    if (terminal)
      std::printf("%s. /image FILE attaches a picture, /clear starts anew, /quit ends.\n", model_.c_str());
    std::string line;
    while ((terminal ? std::fputs("> ", stdout), std::fflush(stdout) : 0), std::getline(std::cin, line)) {
      if (line == "/quit") return;
      absl::Status status;
      if (line == "/clear") {
        conversation_.Clear();
        pictures_.clear();
      } else if (line.starts_with("/image ")) {
        status = Attach(line.substr(7));
      } else if (!line.empty()) {
        status = Say(line);
      }
      if (!status.ok()) std::fprintf(stderr, "fulger chat: %s\n", Message(status).c_str());
    }
  }

 private:
  const ChatFlags& flags_;
  HttpClient client_;
  std::string model_;
  Conversation conversation_;
  std::vector<std::string> pictures_;  // of the next message
};

absl::Status Run(const ChatFlags& flags) {
  ASSIGN_OR_RETURN(const Url url, ParseUrl(flags.url));
  const HttpClient client(url, flags.api_key);
  ASSIGN_OR_RETURN(std::string model, FirstModel(client));
  Chat chat(flags, client, std::move(model));
  for (const std::string& path : flags.images) RETURN_IF_ERROR(chat.Attach(path));
  if (!flags.prompt.empty()) return chat.Say(flags.prompt);
  chat.Talk();
  return absl::OkStatus();
}

}  // namespace

void AddChat(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* command = app->add_subcommand("chat", "talk to a server");
  command->add_option("--url", flags->url, "of the server, http or https")->capture_default_str();
  command->add_option("--api-key", flags->api_key, "bearer token");
  command->add_option("--image", flags->images, "picture for the first message; may be repeated");
  command->add_option("--prompt", flags->prompt, "one question; without it lines are read from the terminal");
  command->add_option("--max-tokens", flags->max_tokens, "of each answer; 0: all the context that is left")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--temperature", flags->temperature, "0: greedy");
  command->add_option("--seed", flags->seed, "the same seed draws the same tokens");
  command->callback([flags, exit_code] {
    const absl::Status status = Run(*flags);
    if (!status.ok()) std::fprintf(stderr, "fulger chat: %s\n", Message(status).c_str());
    *exit_code = status.ok() ? 0 : 1;
  });
}

}  // namespace fulger
