#include "coordinator/text/json_dump.h"

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace fulger {
namespace {

using Json = nlohmann::json;

void AppendString(std::string_view text, std::string* out) {
  out->push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\f':
        *out += "\\f";
        break;
      case '\b':
        *out += "\\b";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          *out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out->push_back(c);
        }
    }
  }
  out->push_back('"');
}

// Python's repr: the shortest digits that read back, plain from 1e-4 up to 1e16, else with an exponent.
std::string PythonFloat(double value) {
  std::array<char, 40> buffer;
  const auto result =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string text(buffer.data(), result.ptr);  // "-1.25e-05"
  const size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return text;
  const std::string sign = text[0] == '-' ? "-" : "";
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits.push_back(c);
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

// Writes values as the parser meets them.
class Writer final : public nlohmann::json_sax<Json> {
 public:
  std::string out;
  std::string error;
  bool is_function_tool = false;
  size_t function_begin = 0;  // of the top object's "function" where that is an object
  size_t function_end = 0;

  bool null() override { return Scalar("null"); }
  bool boolean(bool value) override { return Scalar(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return Scalar(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Scalar(std::to_string(value)); }
  bool number_float(number_float_t value, const string_t& text) override {
    // Integers beyond 64 bits arrive here too; Python keeps all their digits.
    const bool integer = text.find_first_of(".eE") == std::string::npos;
    return Scalar(integer ? text : PythonFloat(value));
  }
  bool string(string_t& value) override {
    if (levels_.size() == 1 && key_ == "type" && value == "function") is_function_tool = true;
    Separate();
    AppendString(value, &out);
    return true;
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override {
    Separate();
    if (levels_.size() == 1 && key_ == "function") function_begin = out.size();
    return Open('{');
  }
  bool start_array(std::size_t) override {
    Separate();
    return Open('[');
  }
  bool end_object() override { return Close('}'); }
  bool end_array() override { return Close(']'); }
  bool key(string_t& value) override {
    if (!levels_.back().keys.insert(value).second) {
      error = fmt::format("key \"{}\" twice in one object", value);
      return false;
    }
    if (levels_.back().count++ > 0) out += ", ";
    AppendString(value, &out);
    out += ": ";
    after_key_ = true;
    if (levels_.size() == 1) key_ = value;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    error = fmt::format("at byte {}: {}", position, e.what());
    return false;
  }

 private:
  struct Level {
    size_t count = 0;
    std::set<std::string> keys;
  };

  void Separate() {
    if (!after_key_ && !levels_.empty() && levels_.back().count++ > 0) out += ", ";
    after_key_ = false;
  }
  bool Scalar(std::string_view text) {
    Separate();
    out += text;
    return true;
  }
  bool Open(char bracket) {
    out.push_back(bracket);
    levels_.emplace_back();
    return true;
  }
  bool Close(char bracket) {
    out.push_back(bracket);
    levels_.pop_back();
    if (levels_.size() == 1 && key_ == "function" && bracket == '}' && function_end == 0)
      function_end = out.size();
    return true;
  }

  std::vector<Level> levels_;
  std::string key_;  // the last key of the top object
  bool after_key_ = false;
};

absl::Status Write(std::string_view json, Writer* writer) {
  try {
    if (Json::sax_parse(json.begin(), json.end(), writer)) return absl::OkStatus();
  } catch (const Json::exception& e) {
    writer->error = e.what();
  }
  return InvalidArgument("not JSON: {}", writer->error);
}

}  // namespace

absl::StatusOr<std::string> DumpLikePython(std::string_view json) {
  Writer writer;
  RETURN_IF_ERROR(Write(json, &writer));
  return std::move(writer.out);
}

absl::StatusOr<std::string> DumpTool(std::string_view json) {
  Writer writer;
  RETURN_IF_ERROR(Write(json, &writer));
  if (!writer.is_function_tool || writer.function_begin == 0) return std::move(writer.out);
  return writer.out.substr(writer.function_begin, writer.function_end - writer.function_begin);
}

}  // namespace fulger
