#include "graders/unicode_text.h"

#include <clocale>
#include <cwctype>

namespace rft {
namespace {

bool IsAscii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
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
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
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

std::vector<std::string_view> SplitWords(std::string_view text) {
  std::vector<std::string_view> words;
  words.reserve(text.size() / 6 + 1);
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t at = pos;
    if (!IsPythonSpace(Next(text, &pos))) continue;
    if (at > begin) words.push_back(text.substr(begin, at - begin));
    begin = pos;
  }
  if (begin < text.size()) words.push_back(text.substr(begin));
  return words;
}

std::string LowerUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  if (IsAscii(text)) {
    out.assign(text);
    for (char& c : out) c = static_cast<char>(c + (c >= 'A' && c <= 'Z' ? 32 : 0));
    return out;
  }
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
