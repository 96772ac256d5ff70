#include "graders/number_text.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>

namespace rft {
namespace {

constexpr std::string_view kUnicodeMinus = "\xE2\x88\x92";
constexpr int64_t kMaxExponent =
    100000;  // far outside a double; keeps the arithmetic below from overflowing

constexpr int kExactDigits = 15;  // of a mantissa that a double has exactly

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

size_t SkipDigits(std::string_view text, size_t pos) {
  while (pos < text.size() && IsDigit(text[pos])) ++pos;
  return pos;
}

// End of the unsigned number that starts at `begin` (a digit, or "." before a digit).
size_t NumberEnd(std::string_view text, size_t begin) {
  size_t end = SkipDigits(text, begin);
  if (end - begin >= 1 && end - begin <= 3) {
    while (end < text.size() && text[end] == ',' && SkipDigits(text, end + 1) == end + 4) end += 4;
  }
  if (end + 1 < text.size() && text[end] == '.' && IsDigit(text[end + 1]))
    end = SkipDigits(text, end + 1);
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    size_t digits = end + 1;
    if (digits < text.size() && (text[digits] == '+' || text[digits] == '-')) ++digits;
    if (digits < text.size() && IsDigit(text[digits])) end = SkipDigits(text, digits);
  }
  return end;
}

// Length of a sign that ends at `end`: 0, 1, or 3 (U+2212).
size_t SignLength(std::string_view text, size_t end, bool* negative) {
  size_t length = 0;
  if (text.substr(0, end).ends_with(kUnicodeMinus)) {
    length = kUnicodeMinus.size();
    *negative = true;
  } else if (end > 0 && (text[end - 1] == '-' || text[end - 1] == '+')) {
    length = 1;
    *negative = text[end - 1] == '-';
  }
  if (length == 0 || end == length) return length;
  const char before = text[end - length - 1];
  if (IsDigit(before) || IsLetter(before) || before == ')') {
    *negative = false;
    return 0;
  }
  return length;
}

// `digits` is an unsigned number as NumberEnd delimits it.
std::optional<Number> Convert(std::string_view digits, bool negative) {
  constexpr int kMaxDigits = 18;  // of a mantissa in 64 bits
  std::optional<Number> result(std::in_place);
  Number& number = *result;
  Decimal& exact = number.exact;
  int num_digits = 0;  // without leading zeros
  bool in_fraction = false, has_commas = false;
  size_t i = 0;
  for (; i < digits.size() && digits[i] != 'e' && digits[i] != 'E'; ++i) {
    if (digits[i] == ',') {
      has_commas = true;
      continue;
    }
    if (digits[i] == '.') {
      in_fraction = true;
      continue;
    }
    if (in_fraction) --exact.exponent;
    if (digits[i] == '0' && num_digits == 0) continue;
    if (++num_digits <= kMaxDigits)
      exact.mantissa = 10 * exact.mantissa + static_cast<uint64_t>(digits[i] - '0');
  }
  const std::string_view mantissa = digits.substr(0, i);
  if (i < digits.size()) {
    std::string_view written = digits.substr(i + 1);
    if (written.starts_with('+')) written.remove_prefix(1);
    int64_t shift = 0;
    auto [end, error] = std::from_chars(written.data(), written.data() + written.size(), shift);
    if (error != std::errc() || shift > kMaxExponent || shift < -kMaxExponent) return std::nullopt;
    exact.exponent += shift;
  }
  if (exact.exponent == 0 && num_digits <= kExactDigits) {
    number.value = static_cast<double>(exact.mantissa);
  } else {
    std::string plain;  // without thousands separators
    std::string_view source = digits;
    if (has_commas) {
      for (const char c : digits) {
        if (c != ',') plain += c;
      }
      source = plain;
    }
    auto [end, error] = std::from_chars(source.data(), source.data() + source.size(), number.value);
    if (error == std::errc::result_out_of_range) {
      if (exact.exponent + num_digits > 0) return std::nullopt;  // beyond the largest double
      number.value = 0.0;                                        // below the smallest
    } else if (error != std::errc() || !std::isfinite(number.value)) {
      return std::nullopt;
    }
  }
  if (num_digits > kMaxDigits) {
    exact.mantissa = 0;
    for (const char c : mantissa) {
      if (IsDigit(c) && (c != '0' || !exact.digits.empty())) exact.digits += c;
    }
    for (; exact.digits.ends_with('0'); ++exact.exponent) exact.digits.pop_back();
    if (exact.digits.size() <= kMaxDigits) {
      std::from_chars(exact.digits.data(), exact.digits.data() + exact.digits.size(),
                      exact.mantissa);
      exact.digits.clear();
    }
  } else {
    for (; exact.mantissa != 0 && exact.mantissa % 10 == 0; ++exact.exponent) exact.mantissa /= 10;
  }
  if (num_digits == 0) {
    exact.exponent = 0;
  } else if (negative) {
    exact.negative = true;
    number.value = -number.value;
  }
  return result;
}

bool StartsNumber(std::string_view text, size_t pos) {
  if (IsDigit(text[pos])) return true;
  return text[pos] == '.' && pos + 1 < text.size() && IsDigit(text[pos + 1]);
}

// The number whose digits start at `begin`, with the sign and "$" before it. `*end` is where it stops.
std::optional<Number> NumberAt(std::string_view text, size_t begin, size_t* end) {
  *end = NumberEnd(text, begin);
  bool negative = false;
  size_t first = begin;
  if (first > 0 && text[first - 1] == '$') --first;
  first -= SignLength(text, first, &negative);
  std::optional<Number> number = Convert(text.substr(begin, *end - begin), negative);
  if (number.has_value()) number->text = text.substr(first, *end - first);
  return number;
}

std::optional<Number> Find(std::string_view text, bool last) {
  std::optional<Number> found;
  for (size_t pos = 0; pos < text.size();) {
    if (!StartsNumber(text, pos)) {
      ++pos;
      continue;
    }
    std::optional<Number> number = NumberAt(text, pos, &pos);
    if (!number.has_value()) continue;
    found = std::move(number);
    if (!last) break;
  }
  return found;
}

// REQUIRES: `value` has at most kExactDigits digits.
std::optional<Number> WholeNumber(int64_t value, std::string_view text) {
  std::optional<Number> number(std::in_place);
  number->text = text;
  number->value = static_cast<double>(value);
  number->exact.negative = value < 0;
  uint64_t mantissa = static_cast<uint64_t>(std::abs(value));
  for (; mantissa != 0 && mantissa % 10 == 0; ++number->exact.exponent) mantissa /= 10;
  number->exact.mantissa = mantissa;
  return number;
}

std::string_view WithoutBlanks(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

std::optional<ShortWholeNumber> ParseShortWholeNumber(std::string_view text) {
  text = WithoutBlanks(text);
  const bool negative = text.starts_with('-');
  const std::string_view digits = text.substr(negative ? 1 : 0);
  if (digits.empty() || digits.size() > kExactDigits) return std::nullopt;
  int64_t value = 0;
  for (const char c : digits) {
    if (!IsDigit(c)) return std::nullopt;
    value = 10 * value + (c - '0');
  }
  return ShortWholeNumber{negative ? -value : value, text};
}

std::optional<Number> ParseNumber(std::string_view text) {
  if (const auto whole = ParseShortWholeNumber(text)) return WholeNumber(whole->value, whole->text);
  text = WithoutBlanks(text);
  size_t begin = 0;
  while (begin < text.size() && !StartsNumber(text, begin)) ++begin;
  if (begin == text.size()) return std::nullopt;
  size_t end = 0;
  std::optional<Number> number = NumberAt(text, begin, &end);
  const std::string_view rest = text.substr(end);
  if (!number.has_value() || number->text.size() != end || (!rest.empty() && rest != "%"))
    return std::nullopt;
  return number;
}

std::optional<Number> FindFirstNumber(std::string_view text) { return Find(text, false); }
std::optional<Number> FindLastNumber(std::string_view text) { return Find(text, true); }

}  // namespace rft
