// JSON read in one pass into a flat list of nodes, several times quicker than a parser that builds values (rft/io/json.h), for graders
// that look and forget. Takes what is JSON beyond doubt, nothing else: no text above 1 MiB, no \u escapes, no key twice in an
// object (nor more than 24 keys), no numbers beyond 64 bits or a double, no -0, at most 32 levels. The rest is for ParseJson, which
// has the last word.
//
//   QuickJson reader;
//   if (const QuickJson::Value* value = reader.Read(text)) ... Member(value->object(), "name") ...
//
// Views and values live as long as the reader, until its next Read. Readers are cheap: each thread keeps their buffers.
// What rows expect comes once per rollout of a group: each thread remembers some such texts, read (ReadRemembered).
// Thread safety: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graders/json_text.h"
#include "graders/numbering.h"
#include "rft/io/json.h"

namespace rft {

class QuickObject;

// A node; those of its parts follow it.
class QuickValue {
 public:
  enum class Kind : uint8_t { kNull, kBool, kInt, kUint, kDouble, kString, kArray, kObject };

  Kind kind() const { return kind_; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_number() const {
    return kind_ == Kind::kInt || kind_ == Kind::kUint || kind_ == Kind::kDouble;
  }
  bool is_array() const { return kind_ == Kind::kArray; }
  bool is_object() const { return kind_ == Kind::kObject; }

  // REQUIRES: the kind.
  bool boolean() const { return boolean_; }
  int64_t integer() const { return integer_; }
  uint64_t natural() const { return natural_; }
  double real() const { return real_; }
  std::string_view text() const { return {text_, size_}; }
  QuickObject object() const;
  size_t size() const { return size_; }                    // of an array or object
  const QuickValue* first() const { return this + 1; }     // item of an array; key of an object
  const QuickValue* next() const { return this + span_; }  // what follows it and its parts

 private:
  friend class QuickJsonParser;
  Kind kind_ = Kind::kNull;
  uint32_t span_ = 1;  // nodes, with all parts
  uint32_t size_ = 0;
  union {
    const char* text_ = nullptr;
    bool boolean_;
    int64_t integer_;
    uint64_t natural_;
    double real_;
  };
};

struct QuickMember {
  std::string_view key;
  const QuickValue* value;
};

// The members in the order they are written.
class QuickObject {
 public:
  class Iterator {
   public:
    Iterator(const QuickValue* key, size_t left) : key_(key), left_(left) {}
    QuickMember operator*() const { return {key_->text(), key_ + 1}; }
    Iterator& operator++() {
      key_ = (key_ + 1)->next();
      --left_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return left_ != other.left_; }

   private:
    const QuickValue* key_;
    size_t left_;
  };

  explicit QuickObject(const QuickValue& value) : value_(&value) {}
  Iterator begin() const { return {value_->first(), value_->size()}; }
  Iterator end() const { return {nullptr, 0}; }
  size_t size() const { return value_->size(); }

 private:
  const QuickValue* value_;
};

inline QuickObject QuickValue::object() const { return QuickObject(*this); }

class QuickJson {
 public:
  using Value = QuickValue;

  QuickJson();
  QuickJson(QuickJson&&);  // the other can only be destroyed; values stay where they are
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
inline const json::value* Member(const json::object& object, std::string_view key) {
  return object.if_contains(json::string_view(key.data(), key.size()));
}
[[gnu::always_inline]] inline const QuickValue* Member(const QuickObject& object,
                                                       std::string_view key) {
  for (const QuickMember member : object) {
    if (numbering_internal::SameShortText(member.key, key)) return member.value;
  }
  return nullptr;
}

inline std::string_view KeyOf(const json::key_value_pair& member) {
  return {member.key().data(), member.key().size()};
}
inline std::string_view KeyOf(const QuickMember& member) { return member.key; }
inline const json::value* ValueOf(const json::key_value_pair& member) { return &member.value(); }
inline const QuickValue* ValueOf(const QuickMember& member) { return member.value; }

inline std::optional<std::string_view> TextOf(const json::value& value) {
  if (!value.is_string()) return std::nullopt;
  return std::string_view(value.get_string());
}
inline std::optional<std::string_view> TextOf(const QuickValue& value) {
  if (!value.is_string()) return std::nullopt;
  return value.text();
}

// As JsonEqual of json_text.h, and as ToJson.
bool JsonEqual(const QuickValue& a, const QuickValue& b, double tolerance = 0.0);
std::string ToJson(const QuickValue& value);

}  // namespace rft
