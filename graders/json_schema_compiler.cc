#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <deque>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "graders/json_schema_node.h"
#include "graders/user_regex.h"
#include "rft/core/status_macros.h"

namespace rft {

using json_schema_internal::IsWhole;
using json_schema_internal::kMaxDepth;
using json_schema_internal::Number;
using json_schema_internal::View;

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
    auto regex = std::make_shared<RE2>(std::string(v.get_string()), UserRegexOptions());
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

absl::StatusOr<JsonSchema> JsonSchema::Compile(const json::value& schema) {
  auto nodes = std::make_shared<std::deque<Node>>();
  Compiler compiler(schema, nodes.get());
  RFT_ASSIGN_OR_RETURN(const Node* root, compiler.Compile(schema, "#"));
  JsonSchema result;
  result.root_ = std::shared_ptr<const Node>(nodes, root);  // keeps all nodes
  return result;
}

}  // namespace rft
