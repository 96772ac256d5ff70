// What tests said about a solution.
#pragma once

#include <string>
#include <vector>

#include "rft/core/grade.h"

namespace rft {

struct TestOutcome {
  struct Test {
    std::string name;
    bool passed = false;
    std::string why;  // unless passed
  };
  std::vector<Test> tests;

  // The share of tests passed, or 1 if all passed and there is one. The reason names the first that did not.
  Score ToScore(bool fraction) const;
};

}  // namespace rft
