#include "graders/start_tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

constexpr char kStart = 's', kSkip = 'x';  // as bindings/python/rft/_worker.py reads them
constexpr size_t kMostTokens = 256;        // in the pipe at once, by far

// Few bytes, into a pipe with room: all or nothing. A worker that is gone shows elsewhere.
void Put(int fd, const char* bytes, size_t count) {
  while (count > 0 && write(fd, bytes, count) < 0 && errno == EINTR) {
  }
}

}  // namespace

absl::StatusOr<StartTokens> StartTokens::Create() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("can't make pipes for a worker: ", strerror(errno)));
  }
  return StartTokens(fds[0], fds[1]);
}

StartTokens::StartTokens(StartTokens&& other) noexcept
    : read_(std::exchange(other.read_, -1)), write_(std::exchange(other.write_, -1)) {}

StartTokens::~StartTokens() {
  if (read_ >= 0) close(read_);
  if (write_ >= 0) close(write_);
}

void StartTokens::Give(size_t count) {
  const std::string tokens(std::min(count, kMostTokens), kStart);
  Put(write_, tokens.data(), tokens.size());
}

size_t StartTokens::TakeBack(size_t in_flight) {
  char tokens[kMostTokens];
  ssize_t size;
  do {
    size = read(read_, tokens, sizeof tokens);
  } while (size < 0 && errno == EINTR);
  if (size <= 0) return 0;
  // The last ones become skips; those before, of items taken back earlier or of one that has not begun, stay as they are.
  const size_t taken_back =
      std::min(static_cast<size_t>(std::count(tokens, tokens + size, kStart)), in_flight - 1);
  size_t left = taken_back;
  for (ssize_t i = size; i-- > 0 && left > 0;) {
    if (tokens[i] != kStart) continue;
    tokens[i] = kSkip;
    --left;
  }
  Put(write_, tokens, static_cast<size_t>(size));
  return taken_back;
}

}  // namespace rft
