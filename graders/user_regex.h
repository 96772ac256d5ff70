// Options for regular expressions that users write and that are matched against what a model writes.
#pragma once

#include "re2/re2.h"

namespace rft {

// RE2's automaton needs room for its states. Where that runs out it goes on with a method that takes linear time, too, but
// thousands of times longer: (a{1,30}){1,30}b needs more than the default 8 MiB. Taken only as far as a pattern needs it.
inline RE2::Options UserRegexOptions() {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(int64_t{128} << 20);
  return options;
}

}  // namespace rft
