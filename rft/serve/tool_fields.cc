#include "rft/serve/tool_fields.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace rft::serve {
namespace {

// OpenAI's rule. Such a name needs no escape in JSON or in a JSON pointer.
bool IsFunctionName(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

std::string_view Text(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_string()) return {};
  return {value->get_string().data(), value->get_string().size()};
}

const json::object* FunctionOf(const json::value& tool) {
  const json::object* object = tool.if_object();
  const json::value* function = object ? object->if_contains("function") : nullptr;
  return object && Text(*object, "type") == "function" && function ? function->if_object()
                                                                   : nullptr;
}

// A schema that is moved to `place` of another takes its references along: "#/$defs/X" becomes place + "/$defs/X".
void MoveReferences(json::value& schema, const std::string& place) {
  if (json::array* items = schema.if_array()) {
    for (json::value& item : *items) MoveReferences(item, place);
  } else if (json::object* members = schema.if_object()) {
    for (auto& member : *members) {
      json::string* text = member.key() == "$ref" ? member.value().if_string() : nullptr;
      if (text == nullptr)
        MoveReferences(member.value(), place);
      else if (absl::StartsWith(text->c_str(), "#"))
        *text = absl::StrCat(place, text->c_str() + 1);
    }
  }
}

// {"name": one of the functions', "arguments": what its parameters say}
std::string CallSchema(const std::map<std::string, const json::object*>& functions) {
  json::array calls;
  json::object definitions;
  for (const auto& [name, function] : functions) {
    const json::value* given = function->if_contains("parameters");
    json::value parameters = given && given->is_object() ? *given : json::value(json::object{});
    parameters.get_object().emplace("type", "object");
    MoveReferences(parameters, absl::StrCat("#/$defs/", name));
    definitions[name] = std::move(parameters);
    json::object properties{{"name", json::object{{"const", name}}},
                            {"arguments", json::object{{"$ref", absl::StrCat("#/$defs/", name)}}}};
    calls.push_back(json::object{{"type", "object"},
                                 {"properties", std::move(properties)},
                                 {"required", json::array{"name", "arguments"}},
                                 {"additionalProperties", false}});
  }
  return ToJson(json::object{{"anyOf", std::move(calls)}, {"$defs", std::move(definitions)}});
}

}  // namespace

ToolFields ReadToolFields(Fields& f, const ServeLimits& limits) {
  ToolFields out;
  const json::value* choice = f.Any("tool_choice");
  const json::value* tools = f.Any("tools");
  out.one_call = !f.Bool("parallel_tool_calls").value_or(true);
  const std::string word = choice && choice->is_string() ? choice->get_string().c_str() : "";
  const json::object* named = choice ? FunctionOf(*choice) : nullptr;
  if (choice && !named && word != "auto" && word != "none" && word != "required")
    f.Fail("tool_choice",
           "must be \"auto\", \"none\", \"required\" or {\"type\": \"function\", \"function\": "
           "{\"name\": ...}}");
  const bool must_call = named || word == "required";
  const json::array* items = tools ? tools->if_array() : nullptr;
  if (tools && !items) f.Fail("tools", "must be a list");
  if (must_call && (!items || items->empty())) f.Fail("tool_choice", "needs tools");
  if (!items || items->empty() || !f.ok()) return out;
  if (items->size() > limits.max_tools)
    f.Fail("tools",
           absl::StrCat("has ", items->size(), "; at most ", limits.max_tools, " are allowed"));
  if (ToJson(*items).size() > limits.max_tools_bytes)
    f.Fail("tools", absl::StrCat("more than ", limits.max_tools_bytes, " bytes"));
  std::map<std::string, const json::object*> functions;
  for (const json::value& tool : *items) {
    const json::object* function = FunctionOf(tool);
    if (!function)
      f.Fail("tools", "each must be {\"type\": \"function\", \"function\": {...}}");
    else if (!IsFunctionName(Text(*function, "name")))
      f.Fail("tools", "a function's name must be 1 to 64 letters, digits, _ and -");
    else
      functions[std::string(Text(*function, "name"))] = function;
  }
  if (!f.ok() || word == "none") return out;
  out.tools = items;
  if (named) {
    const auto wanted = functions.find(std::string(Text(*named, "name")));
    if (wanted == functions.end()) {
      f.Fail("tool_choice", "names none of the tools");
      return out;
    }
    functions = {*wanted};
  }
  if (must_call) out.call = GrammarSpec{GrammarSpec::Kind::kToolCall, CallSchema(functions)};
  return out;
}

}  // namespace rft::serve
