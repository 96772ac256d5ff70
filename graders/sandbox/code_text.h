// What code graders read out of completions and rows. Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "absl/status/statusor.h"

namespace rft {

// The last fenced block whose language is one of `languages` or not given; an unclosed one counts to the end of the text.
// Without any fence, the whole text. "" if there are only blocks of other languages.
std::string ExtractCode(std::string_view completion, const std::vector<std::string>& languages);

// A program's run: what it reads, what it must print.
struct StdioCase {
  std::string input;
  std::string output;
};

// The tests of a row, in any of the forms that datasets use:
//   [{"input": "1 2\n", "output": "3\n"}, ...]               programs; so do {"inputs": [...], "outputs": [...]}
//   the same with an entry point                             calls: input is the list of arguments, or the one argument
//   ["assert f(1) == 2", ...]                                statements, each a test
//   any other text                                           a module of tests (driver.py, module_as_tests)
struct CodeTests {
  std::vector<StdioCase> stdio;  // if not empty, nothing else is
  std::string kind;              // "cases", "statements" or "module", for driver.py
  boost::json::value tests;
};

// kInvalidArgument: what is wrong with them. `entry_point` empty: none.
absl::StatusOr<CodeTests> ParseTests(std::string_view text, std::string_view entry_point);

// Equal up to white space at the ends of lines and empty lines at the end of the text.
bool SameOutput(std::string_view actual, std::string_view expected);

}  // namespace rft
