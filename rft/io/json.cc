#include "rft/io/json.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <unordered_set>
#include <utility>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/value_stack.hpp>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"

namespace rft {
namespace {

// Builds a value from the parser's events. Text and numbers may arrive in parts; a number's text is
// kept to convert it exactly.
struct Handler {
  static constexpr std::size_t max_object_size = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t max_array_size = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t max_key_size = json::string::max_size();
  static constexpr std::size_t max_string_size = json::string::max_size();
  using error_code = json::error_code;
  using string_view = json::string_view;

  json::value_stack stack;
  bool reject_duplicates = false;
  std::optional<std::string> duplicate;
  std::vector<std::unordered_set<std::string>>
      keys;  // per open object, when duplicates are rejected
  std::string key, number;

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    if (reject_duplicates) keys.emplace_back();
    return true;
  }
  bool on_object_end(std::size_t n, error_code&) {
    if (reject_duplicates) keys.pop_back();
    stack.push_object(n);
    return true;
  }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(std::size_t n, error_code&) {
    stack.push_array(n);
    return true;
  }
  bool on_key_part(string_view s, std::size_t, error_code&) {
    if (reject_duplicates) key.append(s.data(), s.size());
    stack.push_chars(s);
    return true;
  }
  bool on_key(string_view s, std::size_t, error_code& ec) {
    if (reject_duplicates) {
      key.append(s.data(), s.size());
      if (!keys.back().insert(key).second) {
        duplicate = key;
        ec = json::error::syntax;
        return false;
      }
      key.clear();
    }
    stack.push_key(s);
    return true;
  }
  bool on_string_part(string_view s, std::size_t, error_code&) {
    stack.push_chars(s);
    return true;
  }
  bool on_string(string_view s, std::size_t, error_code&) {
    stack.push_string(s);
    return true;
  }
  bool on_number_part(string_view s, error_code&) {
    number.append(s.data(), s.size());
    return true;
  }
  bool on_int64(int64_t value, string_view, error_code&) {
    number.clear();
    stack.push_int64(value);
    return true;
  }
  bool on_uint64(uint64_t value, string_view, error_code&) {
    number.clear();
    stack.push_uint64(value);
    return true;
  }
  bool on_double(double value, string_view s, error_code&) {
    number.append(s.data(), s.size());
    std::from_chars(number.data(), number.data() + number.size(),
                    value);  // out of range: the parser's 0 or infinity stays
    number.clear();
    stack.push_double(value);
    return true;
  }
  bool on_bool(bool value, error_code&) {
    stack.push_bool(value);
    return true;
  }
  bool on_null(error_code&) {
    stack.push_null();
    return true;
  }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }
};

// "line 2, column 5" of the byte at `offset`.
std::string Position(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const size_t last_newline = before.rfind('\n');
  const size_t column = before.size() - (last_newline == before.npos ? 0 : last_newline + 1) + 1;
  return absl::StrCat("line ", 1 + std::count(before.begin(), before.end(), '\n'), ", column ",
                      column);
}

// Boost's parser gives up on exponents beyond 32 bits. The same numbers (infinite or 0) with exponents that it takes.
std::string WithShortExponents(std::string_view text) {
  constexpr size_t kMaxDigits =
      9;  // texts are shorter than 10^9 digits, so that no mantissa makes up for them
  const auto digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    if (text[i] == '"') in_string = !in_string;
    if (in_string) {
      if (text[i] == '\\' && i + 1 < text.size()) out += text[++i];
      continue;
    }
    if ((text[i] != 'e' && text[i] != 'E') || i == 0 || !digit(i - 1)) continue;
    if (i + 1 < text.size() && (text[i + 1] == '+' || text[i + 1] == '-')) out += text[++i];
    size_t begin = i + 1, end = i + 1;
    while (digit(end)) ++end;
    while (begin + 1 < end && text[begin] == '0') ++begin;
    out += end - begin > kMaxDigits ? std::string(kMaxDigits, '9')
                                    : std::string(text.substr(begin, end - begin));
    i = end - 1;
  }
  return out;
}

const json::value* Member(const json::object& object, std::string_view key) {
  return object.if_contains(json::string_view(key.data(), key.size()));
}

absl::Status Wrong(std::string_view key, const json::value* value, const char* expected) {
  const std::string name = absl::StrCat("'", std::string(key), "'");
  return absl::InvalidArgumentError(value == nullptr ? absl::StrCat(name, " is missing")
                                                     : absl::StrCat(name, " must be ", expected));
}

}  // namespace

absl::StatusOr<json::value> ParseJson(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("is ", text.size(), " bytes long; at most ", limits.max_bytes, " are read"));
  }
  if (const auto bad = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Position(text, *bad), ": not UTF-8 text (byte ", *bad, ")"));
  }
  json::parse_options options;
  options.max_depth = limits.max_depth;
  json::basic_parser<Handler> parser(options);
  Handler& handler = parser.handler();
  handler.reject_duplicates = limits.reject_duplicate_keys;
  handler.stack.reset();
  json::error_code error;
  const size_t used = parser.write_some(false, text.data(), text.size(), error);
  if (handler.duplicate) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key ", JsonQuote(*handler.duplicate), " is given twice"));
  }
  if (error == json::error::exponent_overflow) {
    if (const std::string shorter = WithShortExponents(text); shorter != text)
      return ParseJson(shorter, limits);
  }
  if (error == json::error::too_deep) {
    return absl::InvalidArgumentError(
        absl::StrCat(Position(text, used), ": nested deeper than ", limits.max_depth, " levels"));
  }
  if (error == json::error::incomplete) {
    return absl::InvalidArgumentError(
        absl::StrCat(Position(text, text.size()), ": the text ends before the JSON value does"));
  }
  if (error)
    return absl::InvalidArgumentError(
        absl::StrCat(Position(text, used), ": not valid JSON: ", error.message()));
  const size_t rest = text.find_first_not_of(" \t\r\n", used);
  if (rest != text.npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(Position(text, rest), ": text after the end of the JSON value"));
  }
  return handler.stack.release();
}

void WriteJson(const json::value& value, JsonWriter& w) {
  switch (value.kind()) {
    case json::kind::null:
      w.Null();
      break;
    case json::kind::bool_:
      w.Bool(value.get_bool());
      break;
    case json::kind::int64:
      w.Int(value.get_int64());
      break;
    case json::kind::uint64:
      w.Uint(value.get_uint64());
      break;
    case json::kind::double_:
      w.Double(value.get_double());
      break;
    case json::kind::string:
      w.String(std::string_view(value.get_string().data(), value.get_string().size()));
      break;
    case json::kind::array:
      w.BeginArray();
      for (const json::value& item : value.get_array()) WriteJson(item, w);
      w.EndArray();
      break;
    case json::kind::object:
      w.BeginObject();
      for (const json::key_value_pair& member : value.get_object()) {
        w.Key(std::string_view(member.key().data(), member.key().size()));
        WriteJson(member.value(), w);
      }
      w.EndObject();
      break;
  }
}

std::string ToJson(const json::value& value) {
  JsonWriter w;
  WriteJson(value, w);
  return w.Take();
}

std::string ToJson(const json::object& object) {
  JsonWriter w;
  w.BeginObject();
  for (const json::key_value_pair& member : object) {
    w.Key(std::string_view(member.key().data(), member.key().size()));
    WriteJson(member.value(), w);
  }
  w.EndObject();
  return w.Take();
}

absl::StatusOr<double> ToDouble(const json::value& value) {
  if (value.is_double()) return value.get_double();
  if (value.is_int64()) return static_cast<double>(value.get_int64());
  if (value.is_uint64()) return static_cast<double>(value.get_uint64());
  if (value.is_string()) {
    const json::string& text = value.get_string();
    if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (text == "inf") return std::numeric_limits<double>::infinity();
    if (text == "-inf") return -std::numeric_limits<double>::infinity();
  }
  return absl::InvalidArgumentError("not a number");
}

absl::StatusOr<int64_t> GetInt(const json::object& object, std::string_view key) {
  const json::value* value = Member(object, key);
  if (value == nullptr || !value->is_int64()) return Wrong(key, value, "a whole number");
  return value->get_int64();
}

absl::StatusOr<double> GetDouble(const json::object& object, std::string_view key) {
  const json::value* value = Member(object, key);
  if (value == nullptr) return Wrong(key, value, "a number");
  const absl::StatusOr<double> number = ToDouble(*value);
  return number.ok() ? number : Wrong(key, value, "a number");
}

absl::StatusOr<bool> GetBool(const json::object& object, std::string_view key) {
  const json::value* value = Member(object, key);
  if (value == nullptr || !value->is_bool()) return Wrong(key, value, "true or false");
  return value->get_bool();
}

absl::StatusOr<std::string> GetString(const json::object& object, std::string_view key) {
  const json::value* value = Member(object, key);
  if (value == nullptr || !value->is_string()) return Wrong(key, value, "text");
  return std::string(value->get_string().data(), value->get_string().size());
}

absl::StatusOr<const json::array*> GetArray(const json::object& object, std::string_view key) {
  const json::value* value = Member(object, key);
  if (value == nullptr || !value->is_array()) return Wrong(key, value, "a list");
  return &value->get_array();
}

absl::StatusOr<const json::object*> GetObject(const json::object& object, std::string_view key) {
  const json::value* value = Member(object, key);
  if (value == nullptr || !value->is_object()) return Wrong(key, value, "an object");
  return &value->get_object();
}

}  // namespace rft
