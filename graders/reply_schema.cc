#include "graders/reply_schema.h"

#include <algorithm>
#include <utility>

namespace rft {
namespace {

namespace json = boost::json;

constexpr int64_t kMostItems = 8;
// Texts share this part of the tokens; the rest is for everything else. A character may be an escape, a token per byte.
constexpr double kShareOfTexts = 0.75;
constexpr double kMostTokensPerCharacter = 6;
constexpr double kMostNumber = 1e6;  // without a range a number may have digits for ever

// How many texts there may be at once.
int64_t NumTexts(const json::value& schema) {
  if (const json::array* list = schema.if_array()) {
    int64_t sum = 0;
    for (const json::value& item : *list) sum += NumTexts(item);
    return sum;
  }
  const json::object* object = schema.if_object();
  if (object == nullptr) return 0;
  const json::value* type = object->if_contains("type");
  if (type != nullptr && *type == "string") return 1;
  int64_t sum = 0;
  for (const json::key_value_pair& member : *object) sum += NumTexts(member.value());
  return type != nullptr && *type == "array" ? sum * kMostItems : sum;
}

void Bound(int64_t characters, json::value& schema) {
  if (json::array* list = schema.if_array()) {
    for (json::value& item : *list) Bound(characters, item);
  }
  json::object* object = schema.if_object();
  if (object == nullptr) return;
  const auto is = [&](const char* name) {
    const json::value* type = object->if_contains("type");
    return type != nullptr && *type == name;
  };
  if (is("string") && !object->contains("enum")) object->emplace("maxLength", characters);
  if (is("array")) object->emplace("maxItems", kMostItems);
  if (is("number") || is("integer")) {
    object->emplace("minimum", -kMostNumber);
    object->emplace("maximum", kMostNumber);
  }
  for (json::key_value_pair& member : *object) Bound(characters, member.value());
}

}  // namespace

json::value ReasonedReply(json::object result) {
  return {{"type", "object"},
          {"properties", json::object{{"reasoning", json::object{{"type", "string"}}},
                                      {"result", std::move(result)}}},
          {"required", json::array{"reasoning", "result"}},
          {"additionalProperties", false}};
}

json::value BoundedSchema(json::value schema, int32_t max_tokens) {
  const int64_t texts = std::max<int64_t>(1, NumTexts(schema));
  const double characters = kShareOfTexts * max_tokens / kMostTokensPerCharacter;
  Bound(std::max<int64_t>(1, static_cast<int64_t>(characters) / texts), schema);
  return schema;
}

}  // namespace rft
