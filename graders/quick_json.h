// JSON through simdjson, three times quicker than a parser that builds values (rft/io/json.h), for graders that look and forget.
// Takes what is JSON beyond doubt, nothing else: no text above 1 MiB, no \u escapes, no key twice
// in an object, no numbers beyond 64 bits or a double, at most 32 levels. The rest is for ParseJson, which has the last word.
//
//   QuickJson reader;
//   if (const QuickJson::Value* value = reader.Read(text)) ... (*value)["name"] ...
//
// Views and values live as long as the reader, until its next Read. Readers are cheap: each thread keeps their buffers.
// What rows expect comes once per rollout of a group: each thread remembers some such texts, read (ReadRemembered).
// Thread safety: one thread.
#pragma once

#include <simdjson.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graders/json_text.h"
#include "rft/io/json.h"

namespace rft {

class QuickJson {
 public:
  using Value = simdjson::dom::element;

  QuickJson();
  QuickJson(QuickJson&&);  // the other can only be destroyed
  ~QuickJson();

  // Null: not taken.
  const Value* Read(std::string_view text);

  // The same, quicker where this thread read the same text lately. Lives until the next call on this thread.
  static const Value* ReadRemembered(std::string_view text);

  struct Buffers;

 private:
  std::vector<std::unique_ptr<Buffers>>* kept_;  // this thread's
  std::unique_ptr<Buffers> buffers_;
};

// The same of both kinds of values, for code that is written once (as a template) for the two.
using QuickObject = simdjson::dom::object;

inline const json::value* Member(const json::object& object, std::string_view key) {
  return object.if_contains(json::string_view(key.data(), key.size()));
}
inline std::optional<QuickJson::Value> Member(const QuickObject& object, std::string_view key) {
  QuickJson::Value value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) return std::nullopt;
  return value;
}

inline std::string_view KeyOf(const json::key_value_pair& member) {
  return {member.key().data(), member.key().size()};
}
inline std::string_view KeyOf(const simdjson::dom::key_value_pair& member) { return member.key; }
inline const json::value* ValueOf(const json::key_value_pair& member) { return &member.value(); }
inline std::optional<QuickJson::Value> ValueOf(const simdjson::dom::key_value_pair& member) {
  return member.value;
}

inline std::optional<std::string_view> TextOf(const json::value& value) {
  if (!value.is_string()) return std::nullopt;
  return std::string_view(value.get_string());
}
inline std::optional<std::string_view> TextOf(const QuickJson::Value& value) {
  if (!value.is_string()) return std::nullopt;
  return std::string_view(value);
}

// As JsonEqual of json_text.h, and as ToJson.
bool JsonEqual(const QuickJson::Value& a, const QuickJson::Value& b, double tolerance = 0.0);
std::string ToJson(const QuickJson::Value& value);

}  // namespace rft
