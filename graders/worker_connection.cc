#include "graders/worker_connection.h"

#include <errno.h>
#include <unistd.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr size_t kReadBytes = 64 << 10;
// One turn of the io_context reads at most this many pieces from one pipe, so that a worker that prints without end
// can't keep the others waiting.
constexpr int kReadsPerTurn = 16;
constexpr auto kExitPollInterval = std::chrono::milliseconds(5);
constexpr int kExitPolls = 40;

}  // namespace

absl::StatusOr<std::shared_ptr<WorkerConnection>> WorkerConnection::Start(
    boost::asio::io_context& io, const SpawnOptions& options, Events events) {
  RFT_ASSIGN_OR_RETURN(StartTokens starts, StartTokens::Create());
  SpawnOptions spawn = options;
  spawn.starts_fd = starts.worker_fd();
  RFT_ASSIGN_OR_RETURN(const SpawnedProcess process, SpawnProcess(spawn));
  std::shared_ptr<WorkerConnection> connection(
      new WorkerConnection(io, process, std::move(starts), std::move(events)));
  connection->WaitForReplies();
  connection->WaitForOutput();
  if (process.exit_fd >= 0) connection->WaitForExit();
  return connection;
}

WorkerConnection::WorkerConnection(boost::asio::io_context& io, const SpawnedProcess& process,
                                   StartTokens starts, Events events)
    : process_(process),
      starts_(std::move(starts)),
      events_(std::move(events)),
      requests_(io, process.requests_fd),
      replies_(io, process.replies_fd),
      output_(io, process.output_fd),
      exit_(io),
      eof_timer_(io) {
  if (process.exit_fd >= 0) exit_.assign(process.exit_fd);
}

void WorkerConnection::Send(std::string_view payload) {
  unsent_ += EncodeFrame(payload);
  Flush();
}

// Writes what the pipe takes. A failure is not reported here: the worker's end shows elsewhere, with its cause.
void WorkerConnection::Flush() {
  while (!dead_ && !waiting_to_write_ && sent_ < unsent_.size()) {
    const ssize_t n =
        write(requests_.native_handle(), unsent_.data() + sent_, unsent_.size() - sent_);
    if (n > 0) {
      sent_ += static_cast<size_t>(n);
    } else if (n < 0 && errno == EAGAIN) {
      waiting_to_write_ = true;
      requests_.async_wait(Descriptor::wait_write,
                           [self = shared_from_this()](const boost::system::error_code& error) {
                             self->waiting_to_write_ = false;
                             if (!error) self->Flush();
                           });
      return;
    } else if (n < 0 && errno != EINTR) {
      return;
    }
  }
  if (sent_ == unsent_.size()) {
    unsent_.clear();
    sent_ = 0;
  }
}

void WorkerConnection::WaitForReplies() {
  replies_.async_wait(Descriptor::wait_read,
                      [self = shared_from_this()](const boost::system::error_code& error) {
                        if (error || self->dead_) return;
                        if (self->ReadReplies()) {
                          self->WaitForReplies();
                        } else if (!self->dead_) {
                          self->AwaitExitAfterEof(kExitPolls);
                        }
                      });
}

bool WorkerConnection::ReadReplies() {
  char bytes[kReadBytes];
  for (int turn = 0; turn < kReadsPerTurn && !dead_; ++turn) {
    const ssize_t n = read(replies_.native_handle(), bytes, sizeof bytes);
    if (n == 0) return false;
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    frames_.Append({bytes, static_cast<size_t>(n)});
    while (!dead_) {
      absl::StatusOr<std::optional<std::string>> frame = frames_.Next();
      if (!frame.ok()) {
        Die(absl::StrCat("broken reply: ", frame.status().message()));
        return false;
      }
      if (!frame->has_value()) break;
      events_.on_frame(**frame);  // may Kill us
    }
  }
  return !dead_;
}

void WorkerConnection::WaitForOutput() {
  output_.async_wait(Descriptor::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (!error && !self->dead_ && self->ReadOutput()) self->WaitForOutput();
                     });
}

bool WorkerConnection::ReadOutput() {
  char bytes[kReadBytes];
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    const ssize_t n = read(output_.native_handle(), bytes, sizeof bytes);
    if (n == 0) return false;
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    printed_.append(bytes, static_cast<size_t>(n));
    if (printed_.size() > 2 * kOutputBytesKept)
      printed_.erase(0, printed_.size() - kOutputBytesKept);
  }
  return true;
}

std::string WorkerConnection::TakeOutput() {
  if (!dead_) ReadOutput();
  std::string taken = std::move(printed_);
  printed_.clear();
  if (taken.size() > kOutputBytesKept) taken.erase(0, taken.size() - kOutputBytesKept);
  return taken;
}

void WorkerConnection::WaitForExit() {
  exit_.async_wait(Descriptor::wait_read,
                   [self = shared_from_this()](const boost::system::error_code& error) {
                     if (error || self->dead_) return;
                     self->Die(ExitCause(self->process_.pid).value_or("ended"));
                   });
}

// The pipe closes shortly before the exit status can be read.
void WorkerConnection::AwaitExitAfterEof(int tries_left) {
  if (dead_) return;
  if (const std::optional<std::string> cause = Exited()) return Die(*cause);
  if (tries_left == 0) return Die("closed its reply pipe");
  eof_timer_.expires_after(kExitPollInterval);
  eof_timer_.async_wait(
      [self = shared_from_this(), tries_left](const boost::system::error_code& error) {
        if (!error) self->AwaitExitAfterEof(tries_left - 1);
      });
}

void WorkerConnection::Die(std::string cause) {
  // Replies written before the end still count. A descendant that holds the pipe can't keep us here: reads don't block,
  // and one bounded pass is enough for what a worker can have written (a pipe holds 64 KiB).
  if (!draining_) {
    draining_ = true;
    ReadReplies();
  }
  if (dead_) return;
  ReadOutput();
  dead_ = true;
  events_.on_death(std::move(cause));
}

void WorkerConnection::Kill() {
  dead_ = true;
  if (!requests_.is_open()) return;
  KillGroup(process_.pid);
  boost::system::error_code ignored;
  for (Descriptor* descriptor : {&requests_, &replies_, &output_, &exit_}) {
    if (descriptor->is_open()) descriptor->close(ignored);
  }
  eof_timer_.cancel();
}

}  // namespace rft
