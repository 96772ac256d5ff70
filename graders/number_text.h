// Numbers as people and models write them: 42, -3.5, .5, 1,234,567.89, 6.02e23, U+2212 minus, $18.
// std only; linear time; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rft {

struct Number {
  double value = 0.0;  // finite
  // The exact decimal value, the same text for equal values: "-12e-1" for -1.20. Two whole numbers beyond 2^53 that a
  // double can't tell apart still differ here.
  std::string canonical;
  std::string text;  // as written
};

// The whole of `text` must be one number, surrounding blanks, a "$" in front and a "%" behind aside ("50%" is 50).
std::optional<Number> ParseNumber(std::string_view text);

// The first or last number within `text`. A "-" or "+" is a sign only where no letter, digit or ")" comes before it
// ("5-3" holds 5 and 3). A comma separates thousands only between groups of three digits ("1,23" holds 1 and 23).
std::optional<Number> FindFirstNumber(std::string_view text);
std::optional<Number> FindLastNumber(std::string_view text);

}  // namespace rft
