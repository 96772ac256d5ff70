// One live worker process and its three pipes, driven by an io_context. All members are called on the thread that runs
// the io_context, and that thread must live as long as the worker should (parent-death signal).
//
// Writing to a dead worker raises SIGPIPE: the thread that runs the io_context must have it blocked.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "absl/status/statusor.h"
#include "graders/start_tokens.h"
#include "graders/worker_frame.h"
#include "graders/worker_process.h"

namespace rft {

class WorkerConnection : public std::enable_shared_from_this<WorkerConnection> {
 public:
  static constexpr size_t kOutputBytesKept = 64 << 10;

  struct Events {
    std::function<void(std::string_view payload)> on_frame;
    // The process ended by itself or spoke nonsense; all its frames have been delivered. At most once, never after Kill.
    std::function<void(std::string cause)> on_death;
  };

  static absl::StatusOr<std::shared_ptr<WorkerConnection>> Start(boost::asio::io_context& io,
                                                                 const SpawnOptions& options,
                                                                 Events events);

  void Send(std::string_view payload);

  // Before an item of the payload begins, the worker takes one.
  StartTokens& starts() { return starts_; }

  // The end of what it printed since the last call, at most kOutputBytesKept.
  std::string TakeOutput();

  // SIGKILLs the process group and closes the pipes; no event comes after it. The caller reaps pid(). Idempotent.
  void Kill();

  // Set when the process has already ended.
  std::optional<std::string> Exited() const { return ExitCause(process_.pid); }
  pid_t pid() const { return process_.pid; }

 private:
  using Descriptor = boost::asio::posix::stream_descriptor;

  WorkerConnection(boost::asio::io_context& io, const SpawnedProcess& process, StartTokens starts,
                   Events events);
  void WaitForReplies();
  void WaitForOutput();
  void WaitForExit();
  bool ReadReplies();  // false: end of file, or the connection is dead
  bool ReadOutput();   // false: end of file
  void Flush();
  void AwaitExitAfterEof(int tries_left);
  void Die(std::string cause);

  const SpawnedProcess process_;
  StartTokens starts_;
  Events events_;
  Descriptor requests_;
  Descriptor replies_;
  Descriptor output_;
  Descriptor exit_;
  boost::asio::steady_timer eof_timer_;
  FrameReader frames_;
  std::string unsent_;
  size_t sent_ = 0;  // of unsent_
  bool waiting_to_write_ = false;
  std::string printed_;
  bool draining_ = false;  // Die has begun
  bool dead_ = false;
};

}  // namespace rft
