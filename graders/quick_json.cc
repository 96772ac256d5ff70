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
#include "graders/remembered.h"
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

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The first quote, backslash or control character from `at` on; with kAsciiOnly, or byte beyond ASCII.
template <bool kAsciiOnly>
inline char* EndOfPlain(char* at) {
#if defined(__SSE2__)
  for (;; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    // Bytes beyond ASCII are negative.
    const __m128i special = kAsciiOnly
                                ? _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20))
                                : _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
    const __m128i found =
        _mm_or_si128(special, _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                           _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
    if (const auto bits = static_cast<uint32_t>(_mm_movemask_epi8(found)); bits != 0)
      return at + std::countr_zero(bits);
  }
#else
  const auto is_plain = [](char c) {
    return c != '"' && c != '\\' && static_cast<unsigned char>(c) > 0x1F &&
           !(kAsciiOnly && static_cast<unsigned char>(c) >= 0x80);
  };
  while (is_plain(*at)) ++at;
  return at;
#endif
}

}  // namespace

// Reads a copy of a text that kPadding zeros follow. Escapes are undone in place.
class QuickJsonParser {
 public:
  QuickJsonParser(std::string_view text, std::vector<QuickValue>* nodes)
      : text_(text), nodes_(*nodes), all_(nodes->data()), num_all_(nodes->size()) {}

  // False: not taken.
  bool Parse(char* copy) {
    const char* const end = copy + text_.size();
    char* const at = Value(SkipBlanks(copy), 0);
    return at != nullptr && SkipBlanks(at) == end;
  }

 private:
  // The readers get where a value begins and say where it ends; null: not taken. The place goes from hand to hand instead of being a
  // member: it stays in a register.

  static char* SkipBlanks(char* at) {
    while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t') ++at;
    return at;
  }

  char* Value(char* at, int depth) {
    switch (*at) {
      case '{':
        return Object(at, depth);
      case '[':
        return Array(at, depth);
      case '"':
        return String(at);
      case 't':
        return Word(at, "true", Kind::kBool, true);
      case 'f':
        return Word(at, "false", Kind::kBool, false);
      case 'n':
        return Word(at, "null", Kind::kNull, false);
      default:
        return Number(at);
    }
  }

  char* Word(char* at, std::string_view word, Kind kind, bool value) {
    if (std::memcmp(at, word.data(), word.size()) != 0) return nullptr;
    Add(kind).boolean_ = value;
    return at + word.size();
  }

  char* Object(char* at, int depth) {
    if (depth == kMaxDepth) return nullptr;
    const size_t index = count_;
    Add(Kind::kObject);
    at = SkipBlanks(at + 1);
    uint32_t keys[kFewMembers];  // their nodes
    uint32_t size = 0;
    if (*at != '}') {
      for (;; at = SkipBlanks(at + 1)) {
        if (size == kFewMembers || *at != '"') return nullptr;
        const size_t key = count_;
        at = String(at);
        if (at == nullptr) return nullptr;
        for (uint32_t i = 0; i < size; ++i) {
          if (numbering_internal::SameShortText(all_[keys[i]].text(), all_[key].text()))
            return nullptr;
        }
        keys[size++] = static_cast<uint32_t>(key);
        at = SkipBlanks(at);
        if (*at != ':') return nullptr;
        at = Value(SkipBlanks(at + 1), depth + 1);
        if (at == nullptr) return nullptr;
        at = SkipBlanks(at);
        if (*at != ',') break;
      }
      if (*at != '}') return nullptr;
    }
    Close(index, size);
    return at + 1;
  }

  char* Array(char* at, int depth) {
    if (depth == kMaxDepth) return nullptr;
    const size_t index = count_;
    Add(Kind::kArray);
    at = SkipBlanks(at + 1);
    uint32_t size = 0;
    if (*at != ']') {
      for (;; at = SkipBlanks(at + 1)) {
        at = Value(at, depth + 1);
        if (at == nullptr) return nullptr;
        ++size;
        at = SkipBlanks(at);
        if (*at != ',') break;
      }
      if (*at != ']') return nullptr;
    }
    Close(index, size);
    return at + 1;
  }

  void Close(size_t index, uint32_t size) {
    all_[index].size_ = size;
    all_[index].span_ = static_cast<uint32_t>(count_ - index);
  }

  // Until the next one.
  QuickValue& Add(Kind kind) {
    if (count_ == num_all_) MakeRoom();
    QuickValue& node = all_[count_++];
    node.kind_ = kind;
    node.span_ = 1;
    return node;
  }
  [[gnu::noinline]] void MakeRoom() {
    nodes_.resize(2 * num_all_ + 16);
    all_ = nodes_.data();
    num_all_ = nodes_.size();
  }

  char* String(char* at) {
    char* const begin = at + 1;
    char* const end = EndOfPlain<true>(begin);
    if (*end != '"') return LongString(begin, end);
    return AddText(begin, end, end);
  }
  // The text, and the quote at its end.
  char* AddText(char* begin, char* end, char* quote) {
    QuickValue& node = Add(Kind::kString);
    node.text_ = begin;
    node.size_ = static_cast<uint32_t>(end - begin);
    return quote + 1;
  }

  // With escapes, or beyond ASCII; it is plain up to `at`.
  [[gnu::noinline]] char* LongString(char* begin, char* at) {
    char* end = at;
    while (*at != '"') {
      if (*at == '\\') {
        const char c = Unescaped(at[1]);
        if (c == '\0') return nullptr;
        *end++ = c;
        at += 2;
      } else if (static_cast<unsigned char>(*at) < 0x80 || !IsUtf8()) {
        return nullptr;  // a control character; the end of the text
      }
      char* const stop = is_utf8_ ? EndOfPlain<false>(at) : EndOfPlain<true>(at);
      const auto plain = static_cast<size_t>(stop - at);
      std::memmove(end, at, plain);
      end += plain;
      at += plain;
    }
    return AddText(begin, end, at);
  }

  // Of all of the text, looked at once.
  bool IsUtf8() {
    is_utf8_ = is_utf8_ || !FindInvalidUtf8(text_).has_value();
    return is_utf8_;
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

  char* Number(char* at) {
    char* const begin = at;
    const bool negative = *at == '-';
    at += negative;
    const char* const digits = at;
    uint64_t value = 0;
    for (; IsDigit(*at); ++at) value = 10 * value + static_cast<uint64_t>(*at - '0');
    const auto num_digits = at - digits;
    if (num_digits == 0 || (*digits == '0' && (num_digits > 1 || negative))) return nullptr;
    QuickValue& node = Add(Kind::kInt);
    if (*at == '.' || *at == 'e' || *at == 'E' || num_digits > 18)
      return LongNumber(begin, at, node);
    node.integer_ = negative ? -static_cast<int64_t>(value) : static_cast<int64_t>(value);
    return at;
  }

  // `at` is behind its whole part.
  static char* LongNumber(const char* begin, char* at, QuickValue& node) {
    bool whole = true;
    const auto skip_digits = [&at] {
      const char* const from = at;
      while (IsDigit(*at)) ++at;
      return at != from;
    };
    if (*at == '.') {
      whole = false;
      ++at;
      if (!skip_digits()) return nullptr;
    }
    if (*at == 'e' || *at == 'E') {
      whole = false;
      ++at;
      if (*at == '+' || *at == '-') ++at;
      if (!skip_digits()) return nullptr;
    }
    const auto reads = [&](auto* value) {
      const auto [end, error] = std::from_chars(begin, static_cast<const char*>(at), *value);
      return error == std::errc() && end == at;
    };
    if (!whole) {
      node.kind_ = Kind::kDouble;
      return reads(&node.real_) ? at : nullptr;
    }
    if (reads(&node.integer_)) return at;
    node.kind_ = Kind::kUint;
    return reads(&node.natural_) ? at : nullptr;
  }

  const std::string_view text_;  // as it was written
  std::vector<QuickValue>& nodes_;
  QuickValue* all_;  // its data; the first count_ are read
  size_t num_all_;
  size_t count_ = 0;
  bool is_utf8_ = false;  // known to be
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
  if (text.size() > kMaxBytes) return nullptr;
  std::vector<char>& padded = buffers.padded;
  if (padded.size() < text.size() + kPadding) padded.resize(2 * text.size() + kPadding);
  if (!text.empty()) std::memcpy(padded.data(), text.data(), text.size());
  std::memset(padded.data() + text.size(), 0, kPadding);
  QuickJsonParser parser(text, &buffers.nodes);
  return parser.Parse(padded.data()) ? buffers.nodes.data() : nullptr;
}

struct ReadText {
  QuickJson::Buffers buffers;
  const QuickValue* value = nullptr;
};

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
  thread_local Remembered<ReadText> memory;
  return memory
      .Of(text, 0,
          [](std::string_view text, ReadText* read) {
            read->value = ReadInto(read->buffers, text);
          })
      .value;
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
