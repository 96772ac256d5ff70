// The part of a text that a grader judges: the first group of a regular expression. Two parameters, the same for every
// grader that has them:
//
//   extract   RE2 regex whose first (group) is the part, e.g. <answer>(.*?)</answer>; default: all of the text
//   pick      last (default) | first: which match counts
//
// Immutable; Find may be called from several threads and takes linear time whatever the pattern.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "graders/param_reader.h"
#include "re2/re2.h"

namespace rft {

class Extract {
 public:
  // Mistakes are added to `params`.
  static Extract Read(ParamReader& params);

  bool has_pattern() const { return regex_ != nullptr; }
  bool picks_last() const { return last_; }

  // A view into `text`; nullopt: the pattern matches nowhere.
  std::optional<std::string_view> Find(std::string_view text) const;

 private:
  // A literal, (.*?), a literal, as in <answer>(.*?)</answer>: what most patterns are, found by searching for the two.
  struct Between {
    std::string open, close;
    bool newlines = false;  // with (?s) in front
  };
  static std::optional<Between> ReadBetween(std::string_view pattern);
  // Inner nullopt: not found. Outer: only the regular expression can tell.
  std::optional<std::optional<std::string_view>> FindBetween(std::string_view text) const;

  std::shared_ptr<const RE2> regex_;
  std::optional<Between> between_;
  bool last_ = true;
};

}  // namespace rft
