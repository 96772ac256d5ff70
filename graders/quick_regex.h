// Whether a text has a part that a regular expression matches, for the patterns people write most: a literal first, then
// characters, classes, groups, alternatives and repetitions, as in <answer>\s*-?\d+\s*</answer>. The literal is searched for, the rest
// is one table look-up per byte. The answer is RE2's, which has all other patterns.
//
// Immutable; any thread; linear time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rft {

class QuickRegex {
 public:
  // nullopt: one for RE2. Valid RE2 syntax is taken for what RE2 takes it for; what is not valid is never taken.
  static std::optional<QuickRegex> Compile(std::string_view pattern);

  // nullopt: only RE2 can tell (text that is not ASCII, and a pattern with "." or a negated class).
  std::optional<bool> Matches(std::string_view text) const;

 private:
  using State = uint8_t;
  static constexpr State kMatched = 255;

  std::string literal_;
  State after_literal_ = 0;
  bool ascii_only_ = false;
  std::vector<std::array<State, 256>> next_;  // 0: no part of a match is under way
};

}  // namespace rft
