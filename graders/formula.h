// Arithmetic over named scores, the language of `calculate_output` in OpenAI's multi graders.
//
//   Formula::Parse("0.5 * accuracy + 0.5 * max(style, 0.1)")   variables() is {"accuracy", "style"}
//
// Numbers, names, + - * / ^ (power, right to left, before a sign: -2^2 is -4), parentheses, and the functions min and max
// (one argument or more), abs, floor, ceil, exp, sqrt, log (natural).
//
// Immutable after Parse; Evaluate may be called from several threads. Source: OpenAI's guide to graders, "Multigraders".
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace rft {

class Formula {
 public:
  static constexpr size_t kMaxLength = 4096;  // characters
  static constexpr int kMaxDepth = 64;        // of parentheses, signs and powers within each other

  // kInvalidArgument says what was expected, at which column (counted from 1).
  static absl::StatusOr<Formula> Parse(std::string_view text);

  const std::vector<std::string>& variables() const {
    return variables_;
  }  // each once, as they occur

  // kInvalidArgument: a variable without a value; a result that is not finite (division by 0, log of 0, ...), with the
  // values that led to it.
  absl::StatusOr<double> Evaluate(const std::map<std::string, double>& values) const;

 private:
  friend class FormulaParser;
  // Postfix: operands push, operators take from the top.
  struct Op {
    enum Kind { kNumber, kVariable, kNegate, kBinary, kCall } kind;
    double number = 0.0;
    size_t index = 0;  // of the variable, or of the function
    char symbol = 0;   // of the binary operator
    size_t arity = 0;  // of the call
  };
  double Run(const std::vector<double>& variables) const;

  std::string text_;
  std::vector<std::string> variables_;
  std::vector<Op> ops_;
};

}  // namespace rft
