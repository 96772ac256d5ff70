// RFT_CHECK: a broken invariant of ours (never bad input) ends the process with file, line and a reason.
// Bad input is an absl::Status; tensor code uses TORCH_CHECK.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace rft::internal {
[[noreturn]] inline void CheckFailed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: invariant broken: %s\n", file, line, what);
  std::abort();
}
}  // namespace rft::internal

#define RFT_CHECK(condition)                                                        \
  do {                                                                              \
    if (!(condition)) ::rft::internal::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)
