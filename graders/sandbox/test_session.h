// Tests and solution in two sandboxes that talk through us (graders/sandbox/driver.py):
//
//   judge (the tests) --R: call f(2)--> [we: one answer per question, sizes, deadline] --> candidate (the model's code)
//     |  <------------------------------------ value 4 ----------------------------------------'
//     '-- C: results --> here
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "graders/sandbox/code_grader.h"
#include "graders/sandbox/code_text.h"
#include "graders/sandbox/test_outcome.h"

namespace rft {

struct TestSession {
  const CodeTests& tests;  // not stdio
  const std::string& entry_point;
  const std::string& setup;
  const std::string& code;
};

// A Status means that it could not be judged: no sandbox, or the tests are wrong. The clock starts when both are ready.
absl::StatusOr<TestOutcome> RunTestSession(const TestSession& session, SandboxPool::Bench& bench,
                                           CodeClock& clock);

}  // namespace rft
