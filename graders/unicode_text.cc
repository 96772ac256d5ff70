#include "graders/unicode_text.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <bit>
#include <clocale>
#include <cstdint>
#include <cstring>
#include <cwctype>

namespace rft {
namespace {

constexpr size_t kBlock = 64;

// One bit per byte of a block of 64, the first byte's lowest: ASCII white space, and what is beyond ASCII.
struct BlockBits {
  uint64_t space = 0;
  uint64_t beyond_ascii = 0;
};

#if defined(__SSE2__)
// Of bytes: between `first` and `first` + `count` - 1.
inline __m128i InRange(__m128i bytes, char first, char count) {
  const __m128i offset = _mm_sub_epi8(bytes, _mm_set1_epi8(first));
  return _mm_cmpeq_epi8(_mm_min_epu8(offset, _mm_set1_epi8(static_cast<char>(count - 1))), offset);
}

inline BlockBits Bits(const char* block) {
  BlockBits bits;
  for (int i = 0; i < 4; ++i) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block) + i);
    // 0x09 to 0x0D, 0x1C to 0x20
    const __m128i space = _mm_or_si128(InRange(bytes, 0x09, 5), InRange(bytes, 0x1C, 5));
    bits.space |= uint64_t{static_cast<uint32_t>(_mm_movemask_epi8(space))} << (16 * i);
    bits.beyond_ascii |= uint64_t{static_cast<uint32_t>(_mm_movemask_epi8(bytes))} << (16 * i);
  }
  return bits;
}
#else
inline BlockBits Bits(const char* block) {
  BlockBits bits;
  for (size_t i = 0; i < kBlock; ++i) {
    const auto c = static_cast<unsigned char>(block[i]);
    bits.space |= uint64_t{(c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20)} << i;
    bits.beyond_ascii |= uint64_t{c >= 0x80} << i;
  }
  return bits;
}
#endif

// Calls visit(offset, bits, the block) per block until it says false; the last block is filled up with blanks.
template <typename Visit>
bool ForEachBlock(std::string_view text, Visit visit) {
  size_t at = 0;
  for (; at + kBlock <= text.size(); at += kBlock) {
    if (!visit(at, Bits(text.data() + at), text.data() + at)) return false;
  }
  if (at == text.size()) return true;
  char last[kBlock];
  std::memset(last, ' ', kBlock);
  std::memcpy(last, text.data() + at, text.size() - at);
  return visit(at, Bits(last), last);
}

inline char LowerAscii(char c) { return static_cast<char>(c + (c >= 'A' && c <= 'Z' ? 32 : 0)); }

// Of ASCII.
inline void LowerBlock(const char* block, char* out) {
#if defined(__SSE2__)
  for (int i = 0; i < 4; ++i) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block) + i);
    const __m128i shift = _mm_and_si128(InRange(bytes, 'A', 26), _mm_set1_epi8(32));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out) + i, _mm_add_epi8(bytes, shift));
  }
#else
  for (size_t i = 0; i < kBlock; ++i) out[i] = LowerAscii(block[i]);
#endif
}

bool EqualIgnoringAsciiCase(const char* a, const char* b, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    if (LowerAscii(a[i]) != LowerAscii(b[i])) return false;
  }
  return true;
}

// The place of a byte of `needle` that is rare in texts and has no case: a digit or a sign. npos: it has none.
size_t RareByte(std::string_view needle) {
  size_t sign = std::string_view::npos;
  for (size_t i = needle.size(); i-- > 0;) {
    const char c = needle[i];
    if (c >= '0' && c <= '9') return i;
    if (c > ' ' && c < '0' && c != ',' && c != '.') sign = i;
  }
  return sign;
}

// The code point that starts at `*pos`, which moves behind it.
char32_t NextBeyondAscii(std::string_view text, size_t* pos) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(*pos);
  size_t length = 1;
  char32_t value = first;
  if (first >= 0xC2 && first < 0xE0) {
    length = 2, value = first & 0x1F;
  } else if (first >= 0xE0 && first < 0xF0) {
    length = 3, value = first & 0x0F;
  } else if (first >= 0xF0 && first < 0xF5) {
    length = 4, value = first & 0x07;
  } else if (first >= 0x80) {
    value = 0xFFFD;
  }
  for (size_t i = 1; i < length; ++i) {
    if (*pos + i >= text.size() || (byte(*pos + i) & 0xC0) != 0x80) {
      length = 1, value = 0xFFFD;
      break;
    }
    value = (value << 6) | (byte(*pos + i) & 0x3F);
  }
  *pos += length;
  return value;
}

inline char32_t Next(std::string_view text, size_t* pos) {
  const auto first = static_cast<unsigned char>(text[*pos]);
  if (first >= 0x80) return NextBeyondAscii(text, pos);
  ++*pos;
  return first;
}

// Upper and lower case of all of Unicode, whatever locale the program is in.
locale_t Unicode() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}

char32_t Lower(char32_t c) {
  if (c < 0x80) return c >= U'A' && c <= U'Z' ? c + 32 : c;
  if (Unicode() == locale_t{}) return c;
  return static_cast<char32_t>(towlower_l(static_cast<wint_t>(c), Unicode()));
}

bool IsLetter(char32_t c) {
  if (c < 0x80) return (c | 32) >= 'a' && (c | 32) <= 'z';
  return Unicode() != locale_t{} && iswalpha_l(static_cast<wint_t>(c), Unicode()) != 0;
}

}  // namespace

std::u32string DecodeUtf8(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) out += Next(text, &pos);
  return out;
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
    return;
  }
  const int trailing = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  static constexpr unsigned char kLead[] = {0, 0xC0, 0xE0, 0xF0};
  *out += static_cast<char>(kLead[trailing] | (c >> (6 * trailing)));
  for (int i = trailing - 1; i >= 0; --i) *out += static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3F));
}

bool IsPythonSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsBlank(std::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    if (!IsPythonSpace(Next(text, &pos))) return false;
  }
  return true;
}

namespace {

// Any text: code point by code point.
template <typename Add>
void ForEachWord(std::string_view text, Add add) {
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t at = pos;
    if (!IsPythonSpace(Next(text, &pos))) continue;
    if (at > begin) add(begin, at);
    begin = pos;
  }
  if (begin < text.size()) add(begin, text.size());
}

}  // namespace

std::vector<std::string_view> SplitWords(std::string_view text) {
  std::vector<std::string_view> words;
  words.reserve(text.size() / 5 + 2);
  uint64_t in_word = 0;  // 1: the block before ends within a word
  size_t begin = 0;
  const bool ascii = ForEachBlock(text, [&](size_t offset, const BlockBits& bits, const char*) {
    if (bits.beyond_ascii != 0) return false;
    // Where a word and a gap meet.
    uint64_t edges = bits.space ^ ((bits.space << 1) | (in_word ^ 1));
    in_word = (~bits.space) >> 63;
    for (; edges != 0; edges &= edges - 1) {
      const int bit = std::countr_zero(edges);
      const size_t at = offset + static_cast<size_t>(bit);
      if (((bits.space >> bit) & 1) == 0) {
        begin = at;
      } else {
        words.push_back(text.substr(begin, at - begin));
      }
    }
    return true;
  });
  if (ascii) {
    if (in_word != 0) words.push_back(text.substr(begin));  // a last block without filling
    return words;
  }
  words.clear();
  ForEachWord(text,
              [&](size_t begin, size_t end) { words.push_back(text.substr(begin, end - begin)); });
  return words;
}

size_t CountWords(std::string_view text) {
  size_t count = 0;
  uint64_t in_word = 0;
  const bool ascii = ForEachBlock(text, [&](size_t, const BlockBits& bits, const char*) {
    if (bits.beyond_ascii != 0) return false;
    const uint64_t word = ~bits.space;
    count += static_cast<size_t>(std::popcount(word & ~((word << 1) | in_word)));
    in_word = word >> 63;
    return true;
  });
  if (ascii) return count;
  count = 0;
  ForEachWord(text, [&](size_t, size_t) { ++count; });
  return count;
}

bool IsAscii(std::string_view text) {
  size_t at = 0;
#if defined(__SSE2__)
  const auto load = [&](size_t i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + at) + i);
  };
  for (; at + kBlock <= text.size(); at += kBlock) {
    const __m128i any =
        _mm_or_si128(_mm_or_si128(load(0), load(1)), _mm_or_si128(load(2), load(3)));
    if (_mm_movemask_epi8(any) != 0) return false;
  }
  for (; at + 16 <= text.size(); at += 16) {
    if (_mm_movemask_epi8(load(0)) != 0) return false;
  }
#endif
  unsigned char any = 0;
  for (; at < text.size(); ++at) any |= static_cast<unsigned char>(text[at]);
  return any < 0x80;
}

bool ContainsIgnoringAsciiCase(std::string_view text, std::string_view needle) {
  if (needle.empty()) return true;
  if (needle.size() > text.size()) return false;
  const size_t num_starts = text.size() - needle.size() + 1;
  size_t at = 0;
  // Only starts where a rare byte fits, while it is rare indeed.
  if (const size_t rare = RareByte(needle); rare != std::string_view::npos) {
    for (int tries = 0; tries < 16; ++tries) {
      const void* const found = std::memchr(text.data() + at + rare, needle[rare], num_starts - at);
      if (found == nullptr) return false;
      at = static_cast<size_t>(static_cast<const char*>(found) - text.data()) - rare;
      if (EqualIgnoringAsciiCase(text.data() + at, needle.data(), needle.size())) return true;
      if (++at == num_starts) return false;
    }
  }
#if defined(__SSE2__)
  // 16 starts at a time: those where the first and the last byte fit.
  const char first = LowerAscii(needle.front()), last = LowerAscii(needle.back());
  const auto case_bit = [](char c) { return static_cast<char>(c >= 'a' && c <= 'z' ? 0x20 : 0); };
  const __m128i first_16 = _mm_set1_epi8(first), last_16 = _mm_set1_epi8(last);
  const __m128i first_case = _mm_set1_epi8(case_bit(first)),
                last_case = _mm_set1_epi8(case_bit(last));
  for (; at + 16 <= num_starts; at += 16) {
    const char* const start = text.data() + at;
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(start));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(start + needle.size() - 1));
    const __m128i fits = _mm_and_si128(_mm_cmpeq_epi8(_mm_or_si128(a, first_case), first_16),
                                       _mm_cmpeq_epi8(_mm_or_si128(b, last_case), last_16));
    for (auto bits = static_cast<uint32_t>(_mm_movemask_epi8(fits)); bits != 0; bits &= bits - 1) {
      if (EqualIgnoringAsciiCase(start + std::countr_zero(bits), needle.data(), needle.size()))
        return true;
    }
  }
#endif
  for (; at < num_starts; ++at) {
    if (EqualIgnoringAsciiCase(text.data() + at, needle.data(), needle.size())) return true;
  }
  return false;
}

bool LowerAsciiWords::Read(std::string_view text) {
  if (text.size() > kFew) {
    many_lower_.resize(text.size() + kBlock + kPadding);
    many_places_.resize(text.size() / 2 + 1);
    lower_ = many_lower_.data();
    places_ = many_places_.data();
  } else {
    lower_ = few_lower_;
    places_ = few_places_;
  }
  size_ = 0;
  bool in_word = false;
  size_t begin = 0;
  const bool ascii =
      ForEachBlock(text, [&](size_t offset, const BlockBits& bits, const char* block) {
        if (bits.beyond_ascii != 0) return false;
        LowerBlock(block, lower_ + offset);
        const uint64_t before =
            (bits.space << 1) | (in_word ? 0 : 1);  // a blank is before the byte
        uint64_t starts = ~bits.space & before, ends = bits.space & ~before;
        for (; ends != 0; ends &= ends - 1) {
          if (!in_word) {
            begin = offset + static_cast<size_t>(std::countr_zero(starts));
            starts &= starts - 1;
          }
          places_[size_++] = {begin, offset + static_cast<size_t>(std::countr_zero(ends))};
          in_word = false;
        }
        if (starts != 0) {
          begin = offset + static_cast<size_t>(std::countr_zero(starts));
          in_word = true;
        }
        return true;
      });
  if (ascii && in_word) places_[size_++] = {begin, text.size()};  // no last block with blanks
  return ascii;
}

std::string LowerUtf8(std::string_view text) {
  std::string out;
  if (IsAscii(text)) {
    out.assign(text);
    char* const chars = out.data();
    size_t i = 0;
#if defined(__SSE2__)
    for (; i + 16 <= out.size(); i += 16) {
      auto* const at = reinterpret_cast<__m128i*>(chars + i);
      const __m128i bytes = _mm_loadu_si128(at);
      const __m128i shift = _mm_and_si128(InRange(bytes, 'A', 26), _mm_set1_epi8(32));
      _mm_storeu_si128(at, _mm_add_epi8(bytes, shift));
    }
#endif
    for (; i < out.size(); ++i) chars[i] = LowerAscii(chars[i]);
    return out;
  }
  out.reserve(text.size());
  const std::u32string points = DecodeUtf8(text);
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i] == 0x130) {  // capital I with dot above: i and a combining dot
      out += "i\xCC\x87";
    } else if (points[i] == 0x3A3) {  // capital sigma: another letter at the end of a word
      const bool ends_word =
          i > 0 && IsLetter(points[i - 1]) && (i + 1 == points.size() || !IsLetter(points[i + 1]));
      AppendUtf8(ends_word ? 0x3C2 : 0x3C3, &out);
    } else {
      AppendUtf8(Lower(points[i]), &out);
    }
  }
  return out;
}

}  // namespace rft
