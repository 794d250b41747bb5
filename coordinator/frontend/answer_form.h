// What a request may ask its answer to look like.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fulger {

struct AnswerForm {
  enum class Kind : uint8_t {
    kJsonObject,
    kJsonSchema,  // `schema`
    kToolCalls,   // of `tools`; with a schema: those, or a value of it
  };
  struct Tool {
    std::string name;
    std::string schema{};  // JSON Schema of the arguments; empty: any object
    std::string field{};   // where it came from: for messages
  };
  Kind kind = Kind::kJsonObject;
  std::string schema{};
  std::string field{};  // where it came from: for messages
  std::vector<Tool> tools{};
  bool several = true;  // kToolCalls: more than one call
  bool text = false;    // kToolCalls: text before, between and behind, and perhaps no call at all
};

}  // namespace fulger
