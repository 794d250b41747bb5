// What is sent: sessions of one or several requests, each a function of the seed and its number.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger::bench {

struct MixSpec {
  enum class Kind : uint8_t { kRandom, kPrefix, kTurns, kPictures, kFile } kind = Kind::kRandom;
  int64_t input = 128;   // words of a prompt (of each turn), or token ids with the completions API
  int64_t output = 64;   // tokens of each answer
  int64_t prefix = 0;    // words before it that the sessions of a group share
  int64_t groups = 1;    // different prefixes
  int64_t turns = 1;     // requests of a session
  int64_t pictures = 0;  // of each request
  int64_t width = 0, height = 0;
  int64_t distinct = 16;  // different pictures
  std::string file;       // JSON lines: bodies with `prompt` or `messages`, as they are sent
};
// "random:input=512,output=64", "prefix:prefix=8192,groups=4,input=64,output=32",
// "turns:turns=4,input=64,output=32", "pictures:width=1024,height=768,pictures=1", "file:PATH".
absl::StatusOr<MixSpec> ParseMix(std::string_view text);

enum class Api : uint8_t { kChat, kCompletions };

struct BodyOptions {
  Api api = Api::kChat;
  std::string model;
  // Only fields of OpenAI's own API: no ignore_eos (answers may end early), no running usage.
  bool plain = false;
  int64_t vocabulary = 256;  // completions: ids are drawn below it
  uint64_t seed = 1;
};

// The requests of one session, in order. Thread-compatible.
class Session {
 public:
  Session(std::vector<nlohmann::json> turns, bool conversation)
      : turns_(std::move(turns)), conversation_(conversation) {}
  size_t size() const { return turns_.size(); }
  // Body of turn `t`. Of a conversation, `answers` are the server's answers so far: they stand in the
  // messages.
  std::string Body(size_t t, const std::vector<std::string>& answers) const;
  int64_t max_tokens(size_t t) const { return turns_[t].value("max_tokens", int64_t{0}); }

 private:
  std::vector<nlohmann::json> turns_;  // bodies; of a conversation with the messages of that turn alone
  bool conversation_;
};

class RequestMix {
 public:
  // Reads the file, draws the pictures.
  static absl::StatusOr<RequestMix> Make(const MixSpec& spec, const BodyOptions& options);
  Session Draw(int64_t session) const;

 private:
  RequestMix(const MixSpec& spec, const BodyOptions& options) : spec_(spec), options_(options) {}
  nlohmann::json Frame() const;
  nlohmann::json Turn(int64_t session, int64_t turn) const;

  MixSpec spec_;
  BodyOptions options_;
  std::vector<std::string> pictures_;     // data URLs
  std::vector<nlohmann::json> recorded_;  // of the file
};

}  // namespace fulger::bench
