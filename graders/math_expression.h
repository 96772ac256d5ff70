// One mathematical expression, LaTeX or plain, as an exact value. std only; any thread; linear time, bounded depth.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "graders/math_value.h"

namespace rft {

struct MathExpression {
  MathValue value;       // of "50%": 50
  bool decimal = false;  // a decimal point occurs
  bool percent = false;
  bool literal = false;  // nothing but one number without a sign
};

// Without what changes the look only: \left, \right, spacing, \displaystyle; \dfrac as \frac, Unicode signs as LaTeX's.
std::string SimplifyLatex(std::string_view text);

// nullopt: something it doesn't know, or a number that is too big. `text` is SimplifyLatex's.
std::optional<MathExpression> ParseMathExpression(std::string_view text);

}  // namespace rft
