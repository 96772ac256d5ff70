// Numbers as people and models write them: 42, -3.5, .5, 1,234,567.89, 6.02e23, U+2212 minus, $18.
// std only; linear time; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace rft {

// An exact decimal: the same for equal values, however they are written ("1e2", "100.0").
struct Decimal {
  bool negative = false;
  uint64_t mantissa = 0;  // without zeros at its end; 0 if there are too many digits
  std::string digits;     // then
  int64_t exponent = 0;   // times 10 to this
  bool operator==(const Decimal&) const = default;
};

struct Number {
  double value = 0.0;  // finite
  Decimal exact;       // two whole numbers beyond 2^53 that a double can't tell apart differ here
  std::string_view text;  // as written, in the text it was found in
};

// The whole of `text` must be one number, surrounding blanks, a "$" in front and a "%" behind aside ("50%" is 50).
std::optional<Number> ParseNumber(std::string_view text);

// Up to 15 digits with nothing but a "-" in front and blanks around them, which is what most expected values are; nullopt: not
// that. The same as ParseNumber says, sooner.
struct ShortWholeNumber {
  int64_t value;
  std::string_view text;  // without the blanks
};
std::optional<ShortWholeNumber> ParseShortWholeNumber(std::string_view text);

// The first or last number within `text`. A "-" or "+" is a sign only where no letter, digit or ")" comes before it
// ("5-3" holds 5 and 3). A comma separates thousands only between groups of three digits ("1,23" holds 1 and 23).
std::optional<Number> FindFirstNumber(std::string_view text);
std::optional<Number> FindLastNumber(std::string_view text);

}  // namespace rft
