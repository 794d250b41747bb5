// Reads the fields of one JSON object with bounds and aliases. The first failure is kept and every later read
// returns a harmless value, so a parser reads all fields in a row and asks status() once.
//
// Internal to model/. Messages: "text_config.rotary_dim: expected an even number in 2..128, found 3".
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

// The same value may stand under two names (released and native); both present must agree.
struct Key {
  std::string_view name;
  std::string_view alias = {};
};

struct Bounds {
  int64_t min = 1;
  int64_t max = int64_t{1} << 24;
};

class FieldReader {
 public:
  // `object` must outlive the reader. `path` names it in messages; empty for the whole file.
  FieldReader(const nlohmann::json& object, std::string path);

  // Present and not null.
  bool Has(std::string_view name) const;
  // nullptr when absent or null under both names.
  const nlohmann::json* Find(const Key& key);

  int64_t Integer(const Key& key, const Bounds& bounds);
  int64_t IntegerOr(const Key& key, const Bounds& bounds, int64_t fallback);
  double Number(const Key& key);
  double PositiveOr(const Key& key, double fallback);
  double Positive(const Key& key);
  std::optional<int32_t> TokenId(std::string_view name);  // a number, a list (its first), null or absent
  // Absent or exactly this value.
  void Fixed(std::string_view name, const nlohmann::json& value);

  void Fail(std::string_view name, std::string_view expected, const nlohmann::json& found);
  void Missing(const Key& key, std::string_view expected);
  const absl::Status& status() const { return status_; }

 private:
  std::string Path(std::string_view name) const;

  const nlohmann::json& object_;
  std::string path_;
  absl::Status status_;
};

}  // namespace fulger
