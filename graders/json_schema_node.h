// The compiled form of a JSON Schema, between json_schema_compiler.cc, which makes it, and json_schema_validator.cc, which
// walks it. Included by these two only.
#pragma once

#include <boost/json/array.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graders/json_schema_validator.h"
#include "re2/re2.h"

namespace rft {
namespace json_schema_internal {

constexpr int kMaxDepth = 256;

inline std::string_view View(json::string_view text) { return {text.data(), text.size()}; }
inline double Number(const json::value& value) { return ToDouble(value).value_or(0.0); }
inline bool IsWhole(const json::value& value) {
  return value.is_int64() || value.is_uint64() ||
         (value.is_double() && std::trunc(value.get_double()) == value.get_double());
}

}  // namespace json_schema_internal

// One schema. Pointers are to nodes the owner keeps; null: keyword not given.
struct JsonSchema::Node {
  bool never = false;  // the schema `false`
  std::vector<std::string> types;
  std::optional<json::array> allowed;  // enum; const as an enum of one
  std::optional<json::value> minimum, maximum, exclusive_minimum, exclusive_maximum, multiple_of;
  std::map<std::string, int64_t> counts;  // minLength, maxItems, ... by keyword
  std::shared_ptr<RE2> pattern;
  bool unique_items = false;
  std::vector<const Node*> prefix_items;
  const Node *items = nullptr, *contains = nullptr;
  std::map<std::string, const Node*> properties;
  std::vector<std::pair<std::shared_ptr<RE2>, const Node*>> pattern_properties;
  const Node *additional_properties = nullptr, *property_names = nullptr;
  std::vector<std::string> required;
  std::map<std::string, std::vector<std::string>> dependent_required;
  std::map<std::string, const Node*> dependent_schemas;
  std::vector<const Node*> all_of, any_of, one_of;  // $ref is one of all_of
  const Node *negated = nullptr, *condition = nullptr, *consequence = nullptr,
             *alternative = nullptr;
};

}  // namespace rft
