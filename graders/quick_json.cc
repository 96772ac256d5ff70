#include "graders/quick_json.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "graders/numbering.h"
#include "rft/core/json_writer.h"

namespace rft {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxKept = 4;  // readers' buffers, per thread
constexpr size_t kFewMembers = 24;
constexpr size_t kRemembered = 64;  // texts, per thread
constexpr size_t kMaxRememberedBytes = 4096;

bool SameKey(std::string_view a, std::string_view b) {
  return a.size() == b.size() && (a.empty() || a.front() == b.front()) && a == b;
}

// No key twice, not too deep. Comparing all pairs of keys is quick for objects that people write; others are not taken.
bool BeyondDoubt(const dom::element& value, size_t depth) {
  const dom::element_type type = value.type();
  if (type == dom::element_type::OBJECT) {
    if (depth == kMaxDepth) return false;
    std::string_view keys[kFewMembers];
    size_t count = 0;
    for (const dom::key_value_pair& member : dom::object(value)) {
      if (count == kFewMembers) return false;
      for (size_t i = 0; i < count; ++i) {
        if (SameKey(keys[i], member.key)) return false;
      }
      keys[count++] = member.key;
      if (!BeyondDoubt(member.value, depth + 1)) return false;
    }
  } else if (type == dom::element_type::ARRAY) {
    if (depth == kMaxDepth) return false;
    for (const dom::element item : dom::array(value)) {
      if (!BeyondDoubt(item, depth + 1)) return false;
    }
  }
  return true;
}

json::value NumberOf(const dom::element& value) {
  if (value.is_int64()) return int64_t(value);
  if (value.is_uint64()) return uint64_t(value);
  return double(value);
}

void Write(const dom::element& value, JsonWriter& writer) {
  switch (value.type()) {
    case dom::element_type::OBJECT:
      writer.BeginObject();
      for (const dom::key_value_pair& member : dom::object(value)) {
        writer.Key(member.key);
        Write(member.value, writer);
      }
      writer.EndObject();
      break;
    case dom::element_type::ARRAY:
      writer.BeginArray();
      for (const dom::element item : dom::array(value)) Write(item, writer);
      writer.EndArray();
      break;
    case dom::element_type::STRING:
      writer.String(std::string_view(value));
      break;
    case dom::element_type::BOOL:
      writer.Bool(bool(value));
      break;
    case dom::element_type::NULL_VALUE:
      writer.Null();
      break;
    default:
      WriteJson(NumberOf(value), writer);
  }
}

}  // namespace

struct QuickJson::Buffers {
  dom::parser parser;
  std::vector<char> padded;
  Value value;
};

namespace {

std::vector<std::unique_ptr<QuickJson::Buffers>>& Kept() {
  thread_local std::vector<std::unique_ptr<QuickJson::Buffers>> kept;
  return kept;
}

const QuickJson::Value* ReadInto(QuickJson::Buffers& buffers, std::string_view text) {
  if (text.size() > kMaxBytes) return nullptr;
  // Lone surrogates: not all versions reject them.
  for (size_t at = 0; (at = text.find('\\', at)) != std::string_view::npos; at += 2) {
    if (text.substr(at).starts_with("\\u")) return nullptr;
  }
  std::vector<char>& padded = buffers.padded;
  if (padded.size() < text.size() + simdjson::SIMDJSON_PADDING)
    padded.resize(2 * text.size() + simdjson::SIMDJSON_PADDING);
  if (!text.empty()) std::memcpy(padded.data(), text.data(), text.size());
  if (buffers.parser.parse(padded.data(), text.size(), /*realloc_if_needed=*/false)
              .get(buffers.value) != simdjson::SUCCESS ||
      !BeyondDoubt(buffers.value, 0))
    return nullptr;
  return &buffers.value;
}

struct Memory {
  std::string text;
  QuickJson::Buffers buffers;
  const QuickJson::Value* value = nullptr;
};

// Where a text is remembered: few of its bytes tell those of a data set apart well enough.
size_t PlaceOf(std::string_view text) {
  using numbering_internal::Load;
  uint64_t hash = text.size();
  if (text.size() >= 8) {
    for (const size_t at : {size_t{0}, text.size() / 4, text.size() / 2, text.size() - 8})
      hash = numbering_internal::Mix(
          hash ^ Load<uint64_t>(text.data() + std::min(at, text.size() - 8)), 0x9E3779B97F4A7C15u);
  }
  return hash % kRemembered;
}

}  // namespace

QuickJson::QuickJson() : kept_(&Kept()) {
  if (kept_->empty()) {
    buffers_ = std::make_unique<Buffers>();
  } else {
    buffers_ = std::move(kept_->back());
    kept_->pop_back();
  }
}

QuickJson::QuickJson(QuickJson&&) = default;

QuickJson::~QuickJson() {
  if (buffers_ != nullptr && kept_->size() < kMaxKept) kept_->push_back(std::move(buffers_));
}

const QuickJson::Value* QuickJson::Read(std::string_view text) { return ReadInto(*buffers_, text); }

const QuickJson::Value* QuickJson::ReadRemembered(std::string_view text) {
  thread_local std::unique_ptr<Memory> memories[kRemembered];
  thread_local Memory long_text;
  if (text.size() > kMaxRememberedBytes) return ReadInto(long_text.buffers, text);
  std::unique_ptr<Memory>& memory = memories[PlaceOf(text)];
  if (memory == nullptr) {
    memory = std::make_unique<Memory>();
  } else if (memory->text == text) {
    return memory->value;
  }
  memory->text = text;
  memory->value = ReadInto(memory->buffers, text);
  return memory->value;
}

bool JsonEqual(const QuickJson::Value& a, const QuickJson::Value& b, double tolerance) {
  if (a.is_int64() && b.is_int64() && int64_t(a) == int64_t(b)) return true;
  if (a.is_number() && b.is_number()) return JsonEqual(NumberOf(a), NumberOf(b), tolerance);
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

std::string ToJson(const QuickJson::Value& value) {
  JsonWriter writer;
  Write(value, writer);
  return writer.Take();
}

}  // namespace rft
