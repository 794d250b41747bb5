#include "coordinator/bench/mix.h"

#include <array>
#include <fstream>
#include <map>
#include <utility>

#include "coordinator/bench/fields.h"
#include "coordinator/bench/picture.h"
#include "coordinator/bench/random.h"

namespace fulger::bench {
namespace {

using nlohmann::json;

// Short and common, so that most tokenizers make one token of each.
constexpr std::array<std::string_view, 64> kWords = {
    "the",   "of",   "and",   "to",   "in",   "is",    "that",  "for",  "was",  "on",    "are",
    "with",  "as",   "at",    "be",   "this", "have",  "from",  "or",   "one",  "had",   "by",
    "word",  "but",  "not",   "what", "all",  "were",  "when",  "your", "can",  "said",  "there",
    "use",   "each", "which", "she",  "do",   "how",   "their", "if",   "will", "up",    "other",
    "about", "out",  "many",  "then", "them", "these", "so",    "some", "her",  "would", "make",
    "like",  "him",  "into",  "time", "has",  "look",  "two",   "more", "write"};

std::string Words(int64_t count, Random* random) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    text += kWords[static_cast<size_t>(random->Below(kWords.size()))];
  }
  return text;
}

void AppendIds(int64_t count, int64_t vocabulary, Random* random, json* ids) {
  for (int64_t i = 0; i < count; ++i) ids->push_back(random->Below(vocabulary));
}

// Streams of Random: sessions count from 0, prefixes are apart from them.
constexpr uint64_t kPrefixStream = uint64_t{1} << 40;

}  // namespace

absl::StatusOr<MixSpec> ParseMix(std::string_view text) {
  const std::string_view name = text.substr(0, text.find(':'));
  const std::string_view rest =
      name.size() == text.size() ? std::string_view() : text.substr(name.size() + 1);
  MixSpec spec;
  if (name == "file") {
    if (rest.empty()) return InvalidArgument("mix \"{}\": expected file:PATH", text);
    spec.kind = MixSpec::Kind::kFile;
    spec.file = rest;
    return spec;
  }
  std::map<std::string_view, int64_t*> fields = {{"input", &spec.input}, {"output", &spec.output}};
  if (name == "prefix") {
    spec.kind = MixSpec::Kind::kPrefix;
    spec.prefix = 1024;
    fields.insert({{"prefix", &spec.prefix}, {"groups", &spec.groups}});
  } else if (name == "turns") {
    spec.kind = MixSpec::Kind::kTurns;
    spec.turns = 4;
    fields.emplace("turns", &spec.turns);
  } else if (name == "pictures") {
    spec.kind = MixSpec::Kind::kPictures;
    spec.pictures = 1;
    spec.width = 1024;
    spec.height = 768;
    fields.insert({{"pictures", &spec.pictures},
                   {"width", &spec.width},
                   {"height", &spec.height},
                   {"distinct", &spec.distinct}});
  } else if (name != "random") {
    return InvalidArgument("mix \"{}\": expected random, prefix, turns, pictures or file:PATH", text);
  }
  if (rest.empty()) return spec;
  for (const std::string_view field : Split(rest, ',')) {
    const size_t equals = field.find('=');
    const auto found = fields.find(field.substr(0, equals));
    if (found == fields.end()) {
      std::string known;
      for (const auto& [key, value] : fields) known.append(known.empty() ? "" : ", ").append(key);
      return InvalidArgument("mix \"{}\": no field \"{}\"; {} has {}", text, field, name, known);
    }
    if (equals == std::string_view::npos || !ParseCount(field.substr(equals + 1), found->second) ||
        *found->second < 1) {
      return InvalidArgument("mix \"{}\": {}: expected a whole number above 0", text, field);
    }
  }
  if (spec.width > 20000 || spec.height > 20000) {
    return InvalidArgument("mix \"{}\": pictures of at most 20000 x 20000 are drawn", text);
  }
  return spec;
}

std::string Session::Body(size_t t, const std::vector<std::string>& answers) const {
  if (!conversation_ || t == 0) return turns_[t].dump();
  json body = turns_[t];
  json messages = json::array();
  for (size_t i = 0; i <= t; ++i) {
    for (const json& message : turns_[i]["messages"]) messages.push_back(message);
    if (i < t) messages.push_back({{"role", "assistant"}, {"content", answers[i]}});
  }
  body["messages"] = std::move(messages);
  // An answer may end within a character.
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<RequestMix> RequestMix::Make(const MixSpec& spec, const BodyOptions& options) {
  RequestMix mix(spec, options);
  if (options.api == Api::kCompletions && (spec.turns > 1 || spec.pictures > 0)) {
    return InvalidArgument("turns and pictures need the chat API");
  }
  for (int64_t i = 0; spec.pictures > 0 && i < spec.distinct; ++i) {
    ASSIGN_OR_RETURN(std::string url,
                     DrawPicture(spec.width, spec.height, options.seed + static_cast<uint64_t>(i)));
    mix.pictures_.push_back(std::move(url));
  }
  if (spec.kind != MixSpec::Kind::kFile) return mix;
  std::ifstream file(spec.file);
  if (!file) return NotFound("{}: cannot be read", spec.file);
  const char* const field = options.api == Api::kChat ? "messages" : "prompt";
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    json body = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (body.is_object() && !body.contains(field) && options.api == Api::kChat && body.contains("prompt") &&
        body["prompt"].is_string()) {
      body["messages"] = {{{"role", "user"}, {"content", body["prompt"]}}};
      body.erase("prompt");
    }
    if (!body.is_object() || !body.contains(field)) {
      return InvalidArgument("{}:{}: expected a JSON object with `{}`", spec.file, number, field);
    }
    mix.recorded_.push_back(std::move(body));
  }
  if (mix.recorded_.empty()) return InvalidArgument("{}: no prompt in it", spec.file);
  return mix;
}

json RequestMix::Frame() const {
  json body = {{"model", options_.model}, {"temperature", 0}, {"stream", true}};
  body["stream_options"] = {{"include_usage", true}};
  if (!options_.plain) body["stream_options"]["continuous_usage_stats"] = true;
  return body;
}

json RequestMix::Turn(int64_t session, int64_t turn) const {
  json body = Frame();
  if (spec_.kind == MixSpec::Kind::kFile) {
    const json& recorded = recorded_[static_cast<size_t>(session) % recorded_.size()];
    body.update(recorded);
    for (const char* const ours : {"model", "stream", "stream_options"}) body[ours] = Frame()[ours];
    return body;
  }
  body["max_tokens"] = spec_.output;
  if (!options_.plain) body["ignore_eos"] = true;
  Random own(options_.seed, static_cast<uint64_t>(session * spec_.turns + turn) + 1);
  Random shared(options_.seed, kPrefixStream + static_cast<uint64_t>(session % spec_.groups));
  if (options_.api == Api::kCompletions) {
    json ids = json::array();
    AppendIds(spec_.prefix, options_.vocabulary, &shared, &ids);
    AppendIds(spec_.input, options_.vocabulary, &own, &ids);
    body["prompt"] = std::move(ids);
    return body;
  }
  std::string text = Words(spec_.input, &own);
  json content = text;
  if (spec_.pictures > 0) {
    content = json::array();
    for (int64_t i = 0; i < spec_.pictures; ++i) {
      const auto& url = pictures_[static_cast<size_t>(own.Below(static_cast<int64_t>(pictures_.size())))];
      content.push_back({{"type", "image_url"}, {"image_url", {{"url", url}}}});
    }
    content.push_back({{"type", "text"}, {"text", text}});
  }
  body["messages"] = json::array();
  if (spec_.prefix > 0) {
    body["messages"].push_back({{"role", "system"}, {"content", Words(spec_.prefix, &shared)}});
  }
  body["messages"].push_back({{"role", "user"}, {"content", std::move(content)}});
  return body;
}

Session RequestMix::Draw(int64_t session) const {
  std::vector<json> turns;
  for (int64_t turn = 0; turn < spec_.turns; ++turn) turns.push_back(Turn(session, turn));
  return Session(std::move(turns), spec_.turns > 1);
}

}  // namespace fulger::bench
