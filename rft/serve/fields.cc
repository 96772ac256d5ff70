#include "rft/serve/fields.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "rft/core/text.h"

namespace rft::serve {
namespace {

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }

// Also 3.0 and 1e3, as some clients write them.
std::optional<int64_t> WholeNumber(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (value.is_double()) {
    const double number = value.get_double();
    if (std::nearbyint(number) == number && std::abs(number) < 9e15)
      return static_cast<int64_t>(number);
  }
  return std::nullopt;
}

// Of the value as it was sent, cut to what fits a message.
std::string Shown(const json::value& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = ToJson(value);
  if (text.size() > 40) text = ReplaceInvalidUtf8(text.substr(0, 37)) + "...";
  return text;
}

}  // namespace

void Fields::Fail(std::string_view key, std::string_view message) {
  if (!status_.ok()) return;
  status_ =
      absl::InvalidArgumentError(absl::StrCat(path_, std::string(key), ": ", std::string(message)));
}

const json::value* Fields::Any(std::string_view key) {
  known_.emplace(key);
  const json::value* value = object_.if_contains(json::string_view(key.data(), key.size()));
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::optional<int64_t> Fields::Int(std::string_view key, int64_t low, int64_t high) {
  const json::value* value = Any(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = WholeNumber(*value);
  if (number && *number >= low && *number <= high) return number;
  Fail(key, absl::StrCat("must be a whole number in ", low, " .. ", high, ", got ", Shown(*value)));
  return std::nullopt;
}

std::optional<double> Fields::Number(std::string_view key, double low, double high) {
  const json::value* value = Any(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    const double number = ToDouble(*value).value();
    if (number >= low && number <= high) return number;
  }
  Fail(key, absl::StrCat("must be a number in ", low, " .. ", high, ", got ", Shown(*value)));
  return std::nullopt;
}

std::optional<bool> Fields::Bool(std::string_view key) {
  const json::value* value = Any(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_bool()) return value->get_bool();
  Fail(key, absl::StrCat("must be true or false, got ", Shown(*value)));
  return std::nullopt;
}

std::optional<std::string> Fields::Text(std::string_view key, size_t max_bytes) {
  const json::value* value = Any(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    Fail(key, absl::StrCat("must be text, got ", Shown(*value)));
    return std::nullopt;
  }
  const std::string_view text = View(value->get_string());
  if (text.size() <= max_bytes) return std::string(text);
  Fail(key, absl::StrCat("has ", text.size(), " bytes; at most ", max_bytes, " are allowed"));
  return std::nullopt;
}

std::vector<std::string> Fields::Texts(std::string_view key, size_t max_count, size_t max_bytes) {
  std::vector<std::string> texts;
  const json::value* value = Any(key);
  if (value == nullptr) return texts;
  const json::array one = {*value};
  const json::array& items = value->is_array() ? value->get_array() : one;
  if (items.size() > max_count)
    Fail(key, absl::StrCat("has ", items.size(), " items; at most ", max_count, " are allowed"));
  for (const json::value& item : items) {
    if (!item.is_string()) Fail(key, "must be text or a list of texts");
    if (!ok()) return {};
    const std::string_view text = View(item.get_string());
    if (text.empty() || text.size() > max_bytes)
      Fail(key, absl::StrCat("each must have 1 .. ", max_bytes, " bytes, got ", text.size()));
    texts.emplace_back(text);
  }
  return texts;
}

std::optional<std::vector<int32_t>> Fields::Ids(std::string_view key, size_t max_count) {
  const json::value* value = Any(key);
  if (value == nullptr) return std::nullopt;
  auto ids = ReadIds(*value, path_ + std::string(key), max_count);
  if (ids.ok()) return *std::move(ids);
  if (status_.ok()) status_ = ids.status();
  return std::nullopt;
}

const json::object* Fields::Object(std::string_view key) {
  const json::value* value = Any(key);
  if (value == nullptr) return nullptr;
  if (value->is_object()) return &value->get_object();
  Fail(key, absl::StrCat("must be an object, got ", Shown(*value)));
  return nullptr;
}

void Fields::Ignore(std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) known_.emplace(key);
}

void Fields::Only(std::string_view key, std::string_view json_value, std::string_view why) {
  const json::value* value = Any(key);
  if (value != nullptr && ToJson(*value) != json_value) Fail(key, why);
}

absl::Status Fields::Finish() {
  for (const json::key_value_pair& member : object_) {
    if (!status_.ok()) break;
    const std::string_view key(member.key().data(), member.key().size());
    if (known_.contains(key)) continue;
    const std::vector<std::string> names(known_.begin(), known_.end());
    const std::optional<std::string> guess =
        key.size() <= 64 ? DidYouMean(key, names) : std::nullopt;
    const std::string name = path_ + std::string(key.substr(0, 64));
    std::string value = Shown(member.value());
    if (value.front() == '"') value.front() = '\'';
    if (value.back() == '"') value.back() = '\'';
    // Clients look for these words.
    Fail(key.substr(0, 64),
         absl::StrCat("Extra inputs are not permitted, field: '", name, "', value: ", value,
                      guess ? "; did you mean " + *guess + "?" : ""));
  }
  return status_;
}

absl::StatusOr<std::vector<int32_t>> ReadIds(const json::value& value, const std::string& name,
                                             size_t max_count) {
  if (!value.is_array())
    return absl::InvalidArgumentError(absl::StrCat(name, ": must be a list of token ids"));
  const json::array& items = value.get_array();
  if (items.size() > max_count)
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": has ", items.size(), " tokens; at most ", max_count, " are allowed"));
  std::vector<int32_t> ids;
  ids.reserve(items.size());
  for (const json::value& item : items) {
    if (!item.is_int64() || item.get_int64() < 0 ||
        item.get_int64() > std::numeric_limits<int32_t>::max())
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": item ", ids.size(), " is not a token id: ", Shown(item)));
    ids.push_back(static_cast<int32_t>(item.get_int64()));
  }
  return ids;
}

}  // namespace rft::serve
