#include "graders/json_schema_validator.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cmath>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "graders/json_text.h"
#include "re2/re2.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr int kMaxDepth = 256;
constexpr int64_t kMaxSteps = 1'000'000;

std::string_view View(json::string_view text) { return {text.data(), text.size()}; }

double Number(const json::value& value) { return ToDouble(value).value_or(0.0); }

bool IsWhole(const json::value& value) {
  return value.is_int64() || value.is_uint64() ||
         (value.is_double() && std::trunc(value.get_double()) == value.get_double());
}

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

class JsonSchema::Compiler {
 public:
  Compiler(const json::value& root, std::deque<Node>* nodes) : root_(root), nodes_(nodes) {}

  absl::StatusOr<const Node*> Compile(const json::value& schema, const std::string& where) {
    if (const auto found = compiled_.find(&schema); found != compiled_.end()) return found->second;
    if (++depth_ > kMaxDepth)
      return absl::InvalidArgumentError(absl::StrCat(where, ": nested too deeply"));
    Node* node = &nodes_->emplace_back();
    compiled_[&schema] = node;
    if (schema.is_bool()) {
      node->never = !schema.get_bool();
    } else if (schema.is_object()) {
      for (const auto& member : schema.get_object()) {
        const std::string keyword(member.key());
        RFT_RETURN_IF_ERROR(Keyword(keyword, member.value(), absl::StrCat(where, "/", keyword),
                                    schema.get_object(), node));
      }
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": a schema must be an object, true or false"));
    }
    --depth_;
    return node;
  }

 private:
  using Where = const std::string&;

  static absl::Status Wrong(Where where, std::string_view must) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": must be ", std::string(must)));
  }

  absl::Status Keyword(const std::string& k, const json::value& v, Where where,
                       const json::object& siblings, Node* node) {
    if (k == "$dynamicRef" || k == "$recursiveRef" || k == "$anchor" || k == "$dynamicAnchor" ||
        k.starts_with("unevaluated"))
      return absl::InvalidArgumentError(absl::StrCat(where, ": this keyword is not supported"));
    if (k == "$ref") return Ref(v, where, node);
    if (k == "type") {
      node->types =
          v.is_string() ? std::vector<std::string>{std::string(v.get_string())} : Names(v);
      for (const std::string& type : node->types) {
        if (!std::set<std::string>{"null", "boolean", "string", "array", "object", "number",
                                   "integer"}
                 .contains(type))
          return absl::InvalidArgumentError(absl::StrCat(where, ": there is no type ", type));
      }
      return node->types.empty() ? Wrong(where, "a type or a list of types") : absl::OkStatus();
    }
    if (k == "enum") {
      if (!v.is_array()) return Wrong(where, "a list");
      node->allowed = v.get_array();
    } else if (k == "const") {
      node->allowed = json::array{v};
    } else if (k == "minimum" || k == "maximum" || k == "exclusiveMinimum" ||
               k == "exclusiveMaximum" || k == "multipleOf") {
      if (!v.is_number() || (k == "multipleOf" && Number(v) <= 0))
        return Wrong(where, k == "multipleOf" ? "a number above 0" : "a number");
      (k == "minimum"            ? node->minimum
       : k == "maximum"          ? node->maximum
       : k == "exclusiveMinimum" ? node->exclusive_minimum
       : k == "exclusiveMaximum" ? node->exclusive_maximum
                                 : node->multiple_of) = v;
    } else if ((k.starts_with("min") || k.starts_with("max")) &&
               (k.ends_with("Length") || k.ends_with("Items") || k.ends_with("Properties") ||
                k.ends_with("Contains"))) {
      if (!IsWhole(v) || Number(v) < 0) return Wrong(where, "a whole number from 0 on");
      node->counts[k] = static_cast<int64_t>(std::min(Number(v), 9e15));
    } else if (k == "pattern") {
      RFT_ASSIGN_OR_RETURN(node->pattern, Regex(v, where));
    } else if (k == "uniqueItems") {
      node->unique_items = v.is_bool() && v.get_bool();
    } else if (k == "required") {
      node->required = Names(v);
    } else {
      return Subschemas(k, v, where, siblings, node);
    }
    return absl::OkStatus();
  }

  absl::Status Subschemas(const std::string& k, const json::value& v, Where where,
                          const json::object& siblings, Node* node) {
    if (k == "prefixItems" || (k == "items" && v.is_array()))
      return List(v, where, &node->prefix_items);
    if (k == "items") return One(v, where, &node->items);
    if (k == "additionalItems") {
      const json::value* items =
          siblings.if_contains("items");  // without a list of items it says nothing
      return items != nullptr && items->is_array() ? One(v, where, &node->items) : absl::OkStatus();
    }
    if (k == "contains") return One(v, where, &node->contains);
    if (k == "properties") return Map(v, where, &node->properties);
    if (k == "additionalProperties") return One(v, where, &node->additional_properties);
    if (k == "propertyNames") return One(v, where, &node->property_names);
    if (k == "patternProperties") {
      std::map<std::string, const Node*> schemas;
      RFT_RETURN_IF_ERROR(Map(v, where, &schemas));
      for (const auto& [pattern, schema] : schemas) {
        RFT_ASSIGN_OR_RETURN(std::shared_ptr<RE2> regex,
                             Regex(json::value(pattern), absl::StrCat(where, "/", pattern)));
        node->pattern_properties.emplace_back(std::move(regex), schema);
      }
      return absl::OkStatus();
    }
    if (k == "dependentSchemas") return Map(v, where, &node->dependent_schemas);
    if (k == "dependentRequired" || k == "dependencies") {
      if (!v.is_object()) return Wrong(where, "an object");
      for (const auto& member : v.get_object()) {
        const std::string name(member.key());
        if (member.value().is_array()) {
          node->dependent_required[name] = Names(member.value());
        } else {
          RFT_RETURN_IF_ERROR(
              One(member.value(), absl::StrCat(where, "/", name), &node->dependent_schemas[name]));
        }
      }
      return absl::OkStatus();
    }
    if (k == "allOf") return List(v, where, &node->all_of);
    if (k == "anyOf") return List(v, where, &node->any_of);
    if (k == "oneOf") return List(v, where, &node->one_of);
    if (k == "not") return One(v, where, &node->negated);
    if (k == "if") return One(v, where, &node->condition);
    if (k == "then") return One(v, where, &node->consequence);
    if (k == "else") return One(v, where, &node->alternative);
    return absl::OkStatus();  // an annotation, or definitions that a $ref leads to
  }

  static std::vector<std::string> Names(const json::value& v) {
    std::vector<std::string> names;
    if (!v.is_array()) return names;
    for (const json::value& name : v.get_array()) {
      if (name.is_string()) names.emplace_back(name.get_string());
    }
    return names;
  }

  absl::Status One(const json::value& v, Where where, const Node** node) {
    RFT_ASSIGN_OR_RETURN(*node, Compile(v, where));
    return absl::OkStatus();
  }

  absl::Status List(const json::value& v, Where where, std::vector<const Node*>* nodes) {
    if (!v.is_array()) return Wrong(where, "a list of schemas");
    for (const json::value& one : v.get_array()) {
      RFT_ASSIGN_OR_RETURN(const Node* node, Compile(one, absl::StrCat(where, "/", nodes->size())));
      nodes->push_back(node);
    }
    return absl::OkStatus();
  }

  absl::Status Map(const json::value& v, Where where, std::map<std::string, const Node*>* nodes) {
    if (!v.is_object()) return Wrong(where, "an object of schemas");
    for (const auto& member : v.get_object()) {
      const std::string name(member.key());
      RFT_ASSIGN_OR_RETURN((*nodes)[name], Compile(member.value(), absl::StrCat(where, "/", name)));
    }
    return absl::OkStatus();
  }

  static absl::StatusOr<std::shared_ptr<RE2>> Regex(const json::value& v, Where where) {
    if (!v.is_string()) return Wrong(where, "a regular expression");
    auto regex = std::make_shared<RE2>(std::string(v.get_string()), RE2::Quiet);
    if (regex->ok()) return regex;
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": not a valid RE2 regular expression: ", regex->error()));
  }

  absl::Status Ref(const json::value& v, Where where, Node* node) {
    if (!v.is_string() || !View(v.get_string()).starts_with("#"))
      return Wrong(where, "a reference into this schema (\"#/...\")");
    const json::value* at = &root_;
    std::string_view rest = View(v.get_string()).substr(1);
    while (!rest.empty() && at != nullptr) {
      if (rest.front() != '/')
        return Wrong(where, "a path (\"#/...\"); names of $anchor are not supported");
      rest.remove_prefix(1);
      const std::string_view raw = rest.substr(0, rest.find('/'));
      rest.remove_prefix(raw.size());
      const std::string name = absl::StrReplaceAll(
          {raw.data(), raw.size()}, {{"~1", "/"}, {"~0", "~"}, {"%25", "%"}, {"%22", "\""}});
      size_t index = 0;
      if (at->is_object()) {
        at = at->get_object().if_contains(name);
      } else if (at->is_array() && absl::SimpleAtoi(name, &index) &&
                 index < at->get_array().size()) {
        at = &at->get_array()[index];
      } else {
        at = nullptr;
      }
    }
    if (at == nullptr)
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": there is no ", ToJson(v), " in the schema"));
    RFT_ASSIGN_OR_RETURN(const Node* target, Compile(*at, std::string(v.get_string())));
    node->all_of.push_back(target);
    return absl::OkStatus();
  }

  const json::value& root_;
  std::deque<Node>* const nodes_;
  std::map<const json::value*, const Node*> compiled_;
  int depth_ = 0;
};

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

absl::StatusOr<JsonSchema> JsonSchema::Compile(const json::value& schema) {
  auto nodes = std::make_shared<std::deque<Node>>();
  Compiler compiler(schema, nodes.get());
  RFT_ASSIGN_OR_RETURN(const Node* root, compiler.Compile(schema, "#"));
  JsonSchema result;
  result.root_ = std::shared_ptr<const Node>(nodes, root);  // keeps all nodes
  return result;
}

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
