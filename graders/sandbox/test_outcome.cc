#include "graders/sandbox/test_outcome.h"

#include "absl/strings/str_cat.h"

namespace rft {

Score TestOutcome::ToScore(bool fraction) const {
  size_t passed = 0;
  const Test* first_failed = nullptr;
  for (const Test& test : tests) {
    if (test.passed) ++passed;
    if (!test.passed && first_failed == nullptr) first_failed = &test;
  }
  const double share =
      tests.empty() ? 0.0 : static_cast<double>(passed) / static_cast<double>(tests.size());
  Score score;
  score.value = fraction ? share : (share == 1.0 ? 1.0 : 0.0);
  score.sub_scores = {{"tests_passed", share}};
  score.reason = absl::StrCat(passed, " of ", tests.size(), " tests passed");
  if (first_failed != nullptr)
    absl::StrAppend(&score.reason, "; ", first_failed->name, ": ", first_failed->why);
  return score;
}

}  // namespace rft
