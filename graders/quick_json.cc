#include "graders/quick_json.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

namespace rft {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxKept = 4;  // readers' buffers, per thread
constexpr size_t kFewMembers = 24;

// No key twice. Comparing all pairs is quick for objects that people write; others are not taken.
bool KeysDiffer(const dom::object& object) {
  std::string_view keys[kFewMembers];
  size_t count = 0;
  for (const dom::key_value_pair& member : object) {
    if (count == kFewMembers) return false;
    for (size_t i = 0; i < count; ++i) {
      if (keys[i] == member.key) return false;
    }
    keys[count++] = member.key;
  }
  return true;
}

bool BeyondDoubt(const dom::element& value, size_t depth) {
  if (depth > kMaxDepth) return false;
  if (dom::object object; value.get(object) == simdjson::SUCCESS) {
    if (!KeysDiffer(object)) return false;
    for (const dom::key_value_pair& member : object) {
      if (!BeyondDoubt(member.value, depth + 1)) return false;
    }
  } else if (dom::array array; value.get(array) == simdjson::SUCCESS) {
    for (const dom::element item : array) {
      if (!BeyondDoubt(item, depth + 1)) return false;
    }
  }
  return true;
}

json::string_view View(std::string_view text) { return {text.data(), text.size()}; }

json::value ToValue(const dom::element& value) {
  switch (value.type()) {
    case dom::element_type::OBJECT: {
      json::object made;
      for (const dom::key_value_pair& member : dom::object(value))
        made.emplace(View(member.key), ToValue(member.value));
      return made;
    }
    case dom::element_type::ARRAY: {
      json::array made;
      for (const dom::element item : dom::array(value)) made.push_back(ToValue(item));
      return made;
    }
    case dom::element_type::STRING:
      return json::value(View(std::string_view(value)));
    case dom::element_type::INT64:
      return int64_t(value);
    case dom::element_type::UINT64:
      return uint64_t(value);
    case dom::element_type::DOUBLE:
      return double(value);
    case dom::element_type::BOOL:
      return bool(value);
    default:
      return nullptr;
  }
}

}  // namespace

struct QuickJson::Buffers {
  dom::parser parser;
  std::vector<char> padded;
  Value value;
};

namespace {

template <typename Buffers>
std::vector<std::unique_ptr<Buffers>>& Kept() {
  thread_local std::vector<std::unique_ptr<Buffers>> kept;
  return kept;
}

}  // namespace

QuickJson::QuickJson() {
  auto& kept = Kept<Buffers>();
  if (kept.empty()) {
    buffers_ = std::make_unique<Buffers>();
  } else {
    buffers_ = std::move(kept.back());
    kept.pop_back();
  }
}

QuickJson::~QuickJson() {
  auto& kept = Kept<Buffers>();
  if (kept.size() < kMaxKept) kept.push_back(std::move(buffers_));
}

const QuickJson::Value* QuickJson::Read(std::string_view text) {
  if (text.size() > kMaxBytes) return nullptr;
  // Lone surrogates: not all versions reject them.
  for (size_t at = 0; (at = text.find('\\', at)) != std::string_view::npos; at += 2) {
    if (text.substr(at).starts_with("\\u")) return nullptr;
  }
  std::vector<char>& padded = buffers_->padded;
  if (padded.size() < text.size() + simdjson::SIMDJSON_PADDING)
    padded.resize(2 * text.size() + simdjson::SIMDJSON_PADDING);
  if (!text.empty()) std::memcpy(padded.data(), text.data(), text.size());
  if (buffers_->parser.parse(padded.data(), text.size(), /*realloc_if_needed=*/false)
              .get(buffers_->value) != simdjson::SUCCESS ||
      !BeyondDoubt(buffers_->value, 0))
    return nullptr;
  return &buffers_->value;
}

bool JsonEqual(const QuickJson::Value& a, const QuickJson::Value& b, double tolerance) {
  if (a.is_number() && b.is_number()) return JsonEqual(ToValue(a), ToValue(b), tolerance);
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case dom::element_type::OBJECT: {
      const dom::object x(a), y(b);
      return x.size() == y.size() &&
             std::all_of(x.begin(), x.end(), [&](const dom::key_value_pair& member) {
               const std::optional<QuickJson::Value> other = Member(y, member.key);
               return other.has_value() && JsonEqual(member.value, *other, tolerance);
             });
    }
    case dom::element_type::ARRAY: {
      const dom::array x(a), y(b);
      return std::equal(
          x.begin(), x.end(), y.begin(), y.end(),
          [&](const dom::element i, const dom::element j) { return JsonEqual(i, j, tolerance); });
    }
    case dom::element_type::STRING:
      return std::string_view(a) == std::string_view(b);
    case dom::element_type::BOOL:
      return bool(a) == bool(b);
    default:
      return true;  // null
  }
}

std::string ToJson(const QuickJson::Value& value) { return ToJson(ToValue(value)); }

}  // namespace rft
