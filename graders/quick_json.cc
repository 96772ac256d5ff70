#include "graders/quick_json.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <utility>
#include <vector>

#include "graders/numbering.h"
#include "graders/unicode_text.h"
#include "rft/core/json_writer.h"
#include "rft/core/text.h"

namespace rft {
namespace {

using Kind = QuickValue::Kind;

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr int kMaxDepth = 32;
constexpr size_t kPadding = 32;  // zeros behind the text: it ends there for every reader
constexpr size_t kMaxKept = 4;   // readers' buffers, per thread
constexpr size_t kMaxKeptNodes = 1 << 14;
constexpr size_t kFewMembers = 24;
constexpr size_t kRemembered = 64;  // texts, per thread
constexpr size_t kMaxRememberedBytes = 4096;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The first quote, backslash or control character from `at` on.
const char* EndOfPlain(const char* at) {
#if defined(__SSE2__)
  for (;; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
    const __m128i found =
        _mm_or_si128(control, _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                           _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
    if (const auto bits = static_cast<uint32_t>(_mm_movemask_epi8(found)); bits != 0)
      return at + std::countr_zero(bits);
  }
#else
  while (*at != '"' && *at != '\\' && static_cast<unsigned char>(*at) > 0x1F) ++at;
  return at;
#endif
}

}  // namespace

// Reads text that kPadding zeros follow. Escapes are undone in place.
class QuickJsonParser {
 public:
  QuickJsonParser(char* text, std::vector<QuickValue>* nodes) : at_(text), nodes_(*nodes) {}

  // False: not taken.
  bool Parse(const char* end) {
    SkipBlanks();
    if (!Value(0)) return false;
    SkipBlanks();
    return at_ == end;
  }

 private:
  void SkipBlanks() {
    while (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t') ++at_;
  }

  bool Value(int depth) {
    switch (*at_) {
      case '{':
        return Object(depth);
      case '[':
        return Array(depth);
      case '"':
        return String();
      case 't':
        return Word("true", Kind::kBool, true);
      case 'f':
        return Word("false", Kind::kBool, false);
      case 'n':
        return Word("null", Kind::kNull, false);
      default:
        return Number();
    }
  }

  bool Word(std::string_view word, Kind kind, bool value) {
    if (std::memcmp(at_, word.data(), word.size()) != 0) return false;
    at_ += word.size();
    Add(kind).boolean_ = value;
    return true;
  }

  bool Object(int depth) {
    if (depth == kMaxDepth) return false;
    const size_t index = Open(Kind::kObject);
    std::string_view keys[kFewMembers];
    uint32_t size = 0;
    if (*at_ != '}') {
      for (;; ++at_, SkipBlanks()) {
        if (size == kFewMembers || *at_ != '"' || !String()) return false;
        const std::string_view key = nodes_[count_ - 1].text();
        for (uint32_t i = 0; i < size; ++i) {
          if (numbering_internal::SameShortText(keys[i], key)) return false;
        }
        keys[size++] = key;
        SkipBlanks();
        if (*at_ != ':') return false;
        ++at_;
        SkipBlanks();
        if (!Value(depth + 1)) return false;
        SkipBlanks();
        if (*at_ != ',') break;
      }
      if (*at_ != '}') return false;
    }
    Close(index, size);
    return true;
  }

  bool Array(int depth) {
    if (depth == kMaxDepth) return false;
    const size_t index = Open(Kind::kArray);
    uint32_t size = 0;
    if (*at_ != ']') {
      for (;; ++at_, SkipBlanks()) {
        if (!Value(depth + 1)) return false;
        ++size;
        SkipBlanks();
        if (*at_ != ',') break;
      }
      if (*at_ != ']') return false;
    }
    Close(index, size);
    return true;
  }

  size_t Open(Kind kind) {
    Add(kind);
    ++at_;
    SkipBlanks();
    return count_ - 1;
  }
  void Close(size_t index, uint32_t size) {
    ++at_;
    nodes_[index].size_ = size;
    nodes_[index].span_ = static_cast<uint32_t>(count_ - index);
  }

  // Until the next one.
  QuickValue& Add(Kind kind) {
    if (count_ == nodes_.size()) nodes_.resize(2 * count_ + 16);
    QuickValue& node = nodes_[count_++];
    node.kind_ = kind;
    node.span_ = 1;
    return node;
  }

  bool String() {
    char* const begin = ++at_;
    at_ = const_cast<char*>(EndOfPlain(at_));
    char* end = at_;
    while (*at_ == '\\') {
      const char c = Unescaped(at_[1]);
      if (c == '\0') return false;
      *end++ = c;
      at_ += 2;
      const char* const stop = EndOfPlain(at_);
      const auto plain = static_cast<size_t>(stop - at_);
      std::memmove(end, at_, plain);
      end += plain;
      at_ += plain;
    }
    if (*at_ != '"') return false;
    ++at_;
    QuickValue& node = Add(Kind::kString);
    node.text_ = begin;
    node.size_ = static_cast<uint32_t>(end - begin);
    return true;
  }

  // 0: not one that is taken.
  static char Unescaped(char c) {
    switch (c) {
      case '"':
      case '\\':
      case '/':
        return c;
      case 'b':
        return '\b';
      case 'f':
        return '\f';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      default:
        return '\0';
    }
  }

  bool Number() {
    const char* const begin = at_;
    const bool negative = *at_ == '-';
    at_ += negative;
    const char* const digits = at_;
    uint64_t value = 0;
    for (; IsDigit(*at_); ++at_) value = 10 * value + static_cast<uint64_t>(*at_ - '0');
    const auto num_digits = at_ - digits;
    if (num_digits == 0 || (*digits == '0' && (num_digits > 1 || negative))) return false;
    QuickValue& node = Add(Kind::kInt);
    if (*at_ != '.' && *at_ != 'e' && *at_ != 'E' && num_digits <= 18) {
      node.integer_ = negative ? -static_cast<int64_t>(value) : static_cast<int64_t>(value);
      return true;
    }
    return LongNumber(begin, node);
  }

  // `at_` is behind its whole part.
  bool LongNumber(const char* begin, QuickValue& node) {
    bool whole = true;
    const auto skip_digits = [this] {
      const char* const from = at_;
      while (IsDigit(*at_)) ++at_;
      return at_ != from;
    };
    if (*at_ == '.') {
      whole = false;
      ++at_;
      if (!skip_digits()) return false;
    }
    if (*at_ == 'e' || *at_ == 'E') {
      whole = false;
      ++at_;
      if (*at_ == '+' || *at_ == '-') ++at_;
      if (!skip_digits()) return false;
    }
    const auto reads = [&](auto* value) {
      const auto [end, error] = std::from_chars(begin, static_cast<const char*>(at_), *value);
      return error == std::errc() && end == at_;
    };
    if (!whole) {
      node.kind_ = Kind::kDouble;
      return reads(&node.real_);
    }
    if (reads(&node.integer_)) return true;
    node.kind_ = Kind::kUint;
    return reads(&node.natural_);
  }

  char* at_;
  std::vector<QuickValue>& nodes_;  // the first count_
  size_t count_ = 0;
};

struct QuickJson::Buffers {
  std::vector<QuickValue> nodes;
  std::vector<char> padded;
};

namespace {

std::vector<std::unique_ptr<QuickJson::Buffers>>& Kept() {
  thread_local std::vector<std::unique_ptr<QuickJson::Buffers>> kept;
  return kept;
}

const QuickValue* ReadInto(QuickJson::Buffers& buffers, std::string_view text) {
  if (text.size() > kMaxBytes || (!IsAscii(text) && FindInvalidUtf8(text).has_value()))
    return nullptr;
  std::vector<char>& padded = buffers.padded;
  if (padded.size() < text.size() + kPadding) padded.resize(2 * text.size() + kPadding);
  if (!text.empty()) std::memcpy(padded.data(), text.data(), text.size());
  std::memset(padded.data() + text.size(), 0, kPadding);
  QuickJsonParser parser(padded.data(), &buffers.nodes);
  return parser.Parse(padded.data() + text.size()) ? buffers.nodes.data() : nullptr;
}

struct Memory {
  std::string text;
  QuickJson::Buffers buffers;
  const QuickValue* value = nullptr;
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

json::value NumberOf(const QuickValue& value) {
  if (value.kind() == Kind::kInt) return value.integer();
  if (value.kind() == Kind::kUint) return value.natural();
  return value.real();
}

void Write(const QuickValue& value, JsonWriter& writer) {
  switch (value.kind()) {
    case Kind::kObject:
      writer.BeginObject();
      for (const QuickMember member : value.object()) {
        writer.Key(member.key);
        Write(*member.value, writer);
      }
      writer.EndObject();
      break;
    case Kind::kArray:
      writer.BeginArray();
      for (const QuickValue* item = value.first(); item != value.next(); item = item->next())
        Write(*item, writer);
      writer.EndArray();
      break;
    case Kind::kString:
      writer.String(value.text());
      break;
    case Kind::kBool:
      writer.Bool(value.boolean());
      break;
    case Kind::kNull:
      writer.Null();
      break;
    default:
      WriteJson(NumberOf(value), writer);
  }
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
  if (buffers_ != nullptr && kept_->size() < kMaxKept && buffers_->nodes.size() <= kMaxKeptNodes)
    kept_->push_back(std::move(buffers_));
}

const QuickValue* QuickJson::Read(std::string_view text) { return ReadInto(*buffers_, text); }

const QuickValue* QuickJson::ReadRemembered(std::string_view text) {
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

bool JsonEqual(const QuickValue& a, const QuickValue& b, double tolerance) {
  if (a.kind() == Kind::kInt && b.kind() == Kind::kInt && tolerance == 0)
    return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return JsonEqual(NumberOf(a), NumberOf(b), tolerance);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kObject:
      if (a.size() != b.size()) return false;
      for (const QuickMember member : a.object()) {
        const QuickValue* other = Member(b.object(), member.key);
        if (other == nullptr || !JsonEqual(*member.value, *other, tolerance)) return false;
      }
      return true;
    case Kind::kArray: {
      if (a.size() != b.size()) return false;
      const QuickValue* y = b.first();
      for (const QuickValue* x = a.first(); x != a.next(); x = x->next(), y = y->next()) {
        if (!JsonEqual(*x, *y, tolerance)) return false;
      }
      return true;
    }
    case Kind::kString:
      return numbering_internal::SameShortText(a.text(), b.text());
    case Kind::kBool:
      return a.boolean() == b.boolean();
    default:
      return true;  // null
  }
}

std::string ToJson(const QuickValue& value) {
  if (value.kind() == Kind::kInt) return std::to_string(value.integer());
  JsonWriter writer;
  Write(value, writer);
  return writer.Take();
}

}  // namespace rft
