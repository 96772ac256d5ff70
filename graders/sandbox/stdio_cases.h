// Programs that read standard input and print: each case in a sandbox of its own, compared out here.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "graders/sandbox/code_grader.h"
#include "graders/sandbox/code_text.h"
#include "graders/sandbox/test_outcome.h"

namespace rft {

// A sandbox ready to be written to; `more`: another will be asked for after it.
using StartProgram = std::function<absl::StatusOr<std::unique_ptr<SandboxProcess>>(bool more)>;

// The end of a Python program's output after it has ended well (driver.py, say_goodbye): its output is whole, though its
// process may take a while to go. A program that prints this itself gains nothing: its output is compared all the same.
inline constexpr std::string_view kProgramDone = "\n\x01rft-done\x01";

// `prologue` is written before each case's input. A case passes if the program ends by itself with status 0 and has printed
// what is expected. The clock's deadline is for all cases together; a Status means that no sandbox could be had.
absl::StatusOr<TestOutcome> RunStdioCases(const std::vector<StdioCase>& cases,
                                          const std::string& prologue, const StartProgram& start,
                                          CodeClock& clock);

}  // namespace rft
