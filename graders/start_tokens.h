// Leave to start, for the items that a worker process has been sent ahead: one byte per item in a pipe, which the worker takes
// before it begins with the item. We hold both ends, so what was not taken can be taken back, and no item starts in two workers.
//
//   tokens.Give(3);            // the worker takes one and hangs
//   tokens.TakeBack(3) == 2    // the other two will not start; the worker skips them if it ever comes back
//
// POSIX. Not thread-safe; the worker is another process.
#pragma once

#include <cstddef>

#include "absl/status/statusor.h"

namespace rft {

class StartTokens {
 public:
  // kResourceExhausted: no pipe.
  static absl::StatusOr<StartTokens> Create();
  StartTokens(StartTokens&& other) noexcept;
  StartTokens& operator=(StartTokens&&) = delete;
  ~StartTokens();

  // To be inherited by the worker. Not blocking, which both ends of a pipe have in common: the worker waits with select().
  int worker_fd() const { return read_; }

  void Give(size_t count);

  // `in_flight` items were given and not answered, the first of them being worked on or about to be: how many of the last
  // ones will not start any more. REQUIRES: in_flight >= 1.
  size_t TakeBack(size_t in_flight);

 private:
  StartTokens(int read, int write) : read_(read), write_(write) {}

  int read_;
  int write_;
};

}  // namespace rft
