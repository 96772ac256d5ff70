// Programs that read standard input and print: each case in a sandbox of its own, compared out here.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graders/sandbox/code_grader.h"
#include "graders/sandbox/code_text.h"
#include "graders/sandbox/test_outcome.h"

namespace rft {

// A sandbox ready to be written to; `more`: another will be asked for after it.
using StartProgram = std::function<absl::StatusOr<std::unique_ptr<SandboxProcess>>(bool more)>;

// `prologue` is written before each case's input. A case passes if the program ends by itself with status 0 and has printed
// what is expected. The clock's deadline is for all cases together; a Status means that no sandbox could be had.
absl::StatusOr<TestOutcome> RunStdioCases(const std::vector<StdioCase>& cases,
                                          const std::string& prologue, const StartProgram& start,
                                          CodeClock& clock);

}  // namespace rft
