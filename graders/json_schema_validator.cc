#include "graders/json_schema_validator.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "graders/json_schema_node.h"
#include "graders/json_text.h"

namespace rft {
namespace {

using json_schema_internal::IsWhole;
using json_schema_internal::kMaxDepth;
using json_schema_internal::Number;
using json_schema_internal::View;

constexpr int64_t kMaxSteps = 1'000'000;

bool IsMultiple(const json::value& value, const json::value& of) {
  if (value.is_int64() && of.is_int64())
    return of.get_int64() == -1 || value.get_int64() % of.get_int64() == 0;
  const double quotient = Number(value) / Number(of);
  return std::isfinite(quotient) ? std::trunc(quotient) == quotient
                                 : std::fmod(Number(value), Number(of)) == 0;
}

// The same text for equal values.
std::string Canonical(const json::value& value) {
  if (value.is_number()) {
    if (value.is_int64()) return std::to_string(value.get_int64());
    if (value.is_uint64()) return std::to_string(value.get_uint64());
    const double number = value.get_double();
    if (std::trunc(number) == number && std::abs(number) < 9e15)
      return std::to_string(static_cast<int64_t>(number));
    return ToJson(value);
  }
  if (value.is_array()) {
    std::string text = "[";
    for (const json::value& item : value.get_array()) text += Canonical(item) + ",";
    return text + "]";
  }
  if (!value.is_object()) return ToJson(value);
  std::map<std::string, std::string> members;
  for (const auto& member : value.get_object())
    members[ToJson(json::value(member.key()))] = Canonical(member.value());
  std::string text = "{";
  for (const auto& [key, member] : members) absl::StrAppend(&text, key, ":", member, ",");
  return text + "}";
}

int64_t CodePoints(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

bool HasType(const json::value& value, std::string_view type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_bool();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (type == "number") return value.is_number();
  return type == "integer" && IsWhole(value);
}

}  // namespace

class JsonSchema::Validator {
 public:
  using Mistake = std::optional<std::string>;

  Mistake Check(const Node& node, const json::value& v, const std::string& at) {
    if (++steps_ > kMaxSteps || depth_ >= kMaxDepth) {
      exhausted_ = true;
      return at + ": gave up";
    }
    ++depth_;
    Mistake mistake = CheckOne(node, v, at);
    --depth_;
    return mistake;
  }

  bool exhausted() const { return exhausted_; }

 private:
  bool Valid(const Node& node, const json::value& v, const std::string& at) {
    return !Check(node, v, at).has_value();
  }

  Mistake CheckOne(const Node& node, const json::value& v, const std::string& at) {
    if (node.never) return at + ": is not allowed";
    if (!node.types.empty()) {
      bool fits = false;
      for (const std::string& type : node.types) fits = fits || HasType(v, type);
      if (!fits)
        return absl::StrCat(at, ": is not of type ", node.types.front(),
                            node.types.size() > 1 ? " or another allowed one" : "");
    }
    if (node.allowed.has_value()) {
      bool found = false;
      for (const json::value& one : *node.allowed) found = found || JsonEqual(one, v);
      if (!found) return at + ": is not one of the allowed values";
    }
    Mistake mistake;
    if (v.is_number()) mistake = CheckNumber(node, v, at);
    if (v.is_string()) mistake = CheckString(node, View(v.get_string()), at);
    if (v.is_array()) mistake = CheckArray(node, v.get_array(), at);
    if (v.is_object()) mistake = CheckObject(node, v, at);
    return mistake.has_value() ? mistake : CheckCombinations(node, v, at);
  }

  static Mistake CheckNumber(const Node& node, const json::value& v, const std::string& at) {
    const double number = Number(v);
    if (node.minimum && number < Number(*node.minimum)) return at + ": is below the minimum";
    if (node.maximum && number > Number(*node.maximum)) return at + ": is above the maximum";
    if (node.exclusive_minimum && number <= Number(*node.exclusive_minimum))
      return at + ": is not above the exclusive minimum";
    if (node.exclusive_maximum && number >= Number(*node.exclusive_maximum))
      return at + ": is not below the exclusive maximum";
    if (node.multiple_of && !IsMultiple(v, *node.multiple_of))
      return at + ": is not a multiple of " + ToJson(*node.multiple_of);
    return std::nullopt;
  }

  // Of a "min..." and a "max..." keyword.
  static Mistake CheckCount(const Node& node, const char* what, int64_t count,
                            const std::string& at) {
    if (node.counts.empty()) return std::nullopt;
    const auto least = node.counts.find(absl::StrCat("min", what)),
               most = node.counts.find(absl::StrCat("max", what));
    if (least != node.counts.end() && count < least->second)
      return absl::StrCat(at, ": fewer than min", what, " (", least->second, ")");
    if (most != node.counts.end() && count > most->second)
      return absl::StrCat(at, ": more than max", what, " (", most->second, ")");
    return std::nullopt;
  }

  static Mistake CheckString(const Node& node, std::string_view text, const std::string& at) {
    if (Mistake mistake = CheckCount(node, "Length", CodePoints(text), at)) return mistake;
    if (node.pattern != nullptr && !RE2::PartialMatch({text.data(), text.size()}, *node.pattern))
      return absl::StrCat(at, ": does not match ", node.pattern->pattern());
    return std::nullopt;
  }

  Mistake CheckArray(const Node& node, const json::array& array, const std::string& at) {
    if (Mistake mistake = CheckCount(node, "Items", static_cast<int64_t>(array.size()), at))
      return mistake;
    int64_t contained = 0;
    std::set<std::string> seen;
    for (size_t i = 0; i < array.size(); ++i) {
      const std::string here = absl::StrCat(at, "/", i);
      const Node* schema = i < node.prefix_items.size() ? node.prefix_items[i] : node.items;
      if (schema != nullptr) {
        if (Mistake mistake = Check(*schema, array[i], here)) return mistake;
      }
      if (node.contains != nullptr) contained += Valid(*node.contains, array[i], here);
      if (node.unique_items && !seen.insert(Canonical(array[i])).second)
        return here + ": occurs twice";
    }
    if (node.contains == nullptr) return std::nullopt;
    if (contained == 0 && !node.counts.contains("minContains"))
      return at + ": contains no item as it should";
    return CheckCount(node, "Contains", contained, at);
  }

  Mistake CheckObject(const Node& node, const json::value& v, const std::string& at) {
    const json::object& object = v.get_object();
    if (Mistake mistake = CheckCount(node, "Properties", static_cast<int64_t>(object.size()), at))
      return mistake;
    for (const std::string& name : node.required) {
      if (!object.contains(name)) return absl::StrCat(at, ": ", name, " is missing");
    }
    for (const auto& [name, others] : node.dependent_required) {
      if (!object.contains(name)) continue;
      for (const std::string& other : others) {
        if (!object.contains(other))
          return absl::StrCat(at, ": ", other, " is missing beside ", name);
      }
    }
    for (const auto& [name, schema] : node.dependent_schemas) {
      if (!object.contains(name)) continue;
      if (Mistake mistake = Check(*schema, v, at)) return mistake;
    }
    for (const auto& member : object) {
      const std::string name(member.key()), here = absl::StrCat(at, "/", name.substr(0, 50));
      bool known = false;
      if (const auto found = node.properties.find(name); found != node.properties.end()) {
        known = true;
        if (Mistake mistake = Check(*found->second, member.value(), here)) return mistake;
      }
      for (const auto& [regex, schema] : node.pattern_properties) {
        if (!RE2::PartialMatch(name, *regex)) continue;
        known = true;
        if (Mistake mistake = Check(*schema, member.value(), here)) return mistake;
      }
      if (!known && node.additional_properties != nullptr) {
        if (Mistake mistake = Check(*node.additional_properties, member.value(), here))
          return mistake;
      }
      if (node.property_names != nullptr) {
        if (Mistake mistake = Check(*node.property_names, json::value(name), here)) return mistake;
      }
    }
    return std::nullopt;
  }

  Mistake CheckCombinations(const Node& node, const json::value& v, const std::string& at) {
    for (const Node* one : node.all_of) {
      if (Mistake mistake = Check(*one, v, at)) return mistake;
    }
    if (!node.any_of.empty()) {
      bool any = false;
      Mistake first;
      for (const Node* one : node.any_of) {
        Mistake mistake = Check(*one, v, at);
        any = !mistake.has_value();
        if (any) break;
        if (!first.has_value()) first = std::move(mistake);
      }
      if (!any) return absl::StrCat(at, ": fits none of anyOf (", *first, ")");
    }
    if (!node.one_of.empty()) {
      int fitting = 0;
      for (const Node* one : node.one_of) fitting += Valid(*one, v, at);
      if (fitting != 1) return absl::StrCat(at, ": fits ", fitting, " of oneOf, not one");
    }
    if (node.negated != nullptr && Valid(*node.negated, v, at))
      return at + ": fits what it must not";
    if (node.condition != nullptr) {
      const Node* next = Valid(*node.condition, v, at) ? node.consequence : node.alternative;
      if (next != nullptr) return Check(*next, v, at);
    }
    return std::nullopt;
  }

  int64_t steps_ = 0;
  int depth_ = 0;
  bool exhausted_ = false;
};

absl::StatusOr<std::optional<std::string>> JsonSchema::Validate(const json::value& instance) const {
  Validator validator;
  std::optional<std::string> mistake = validator.Check(*root_, instance, "");
  if (validator.exhausted())
    return absl::ResourceExhaustedError(
        "checking against the schema takes more steps, or nests deeper, than allowed");
  if (mistake.has_value() && mistake->starts_with(":")) mistake = "the whole" + *mistake;
  return mistake;
}

}  // namespace rft
