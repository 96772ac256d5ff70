// Final answers of mathematics problems, LaTeX or plain: finding them in a solution and comparing them without a computer
// algebra system. What can't be decided exactly is said to be undecided; graders/math_equal.cc asks math-verify then.
// Decisions are those of the Python package math-verify 0.9 (tests/graders/math_answer_test.cc).
// std only; any thread; time linear in the text.
#pragma once

#include <optional>
#include <string_view>

namespace rft {

enum class MathVerdict { kEqual, kDifferent, kUndecided };

// The content of the last \boxed{...} or \fbox{...}; without one, a text of at most 200 characters as a whole, less the $ or
// \( \) around it. nullopt: the answer has to be looked for.
std::optional<std::string_view> FindMathAnswer(std::string_view text);

// Knows numbers (1,234.5, \frac12, 3\frac{1}{2}, 50\%, \$5, 90^\circ, a unit in \text behind), sums, products, quotients and
// whole powers of them, of letters, \pi and \sqrt; tuples and intervals; sets and lists in any order; "x = " in front.
MathVerdict CompareMath(std::string_view expected, std::string_view answer);

}  // namespace rft
