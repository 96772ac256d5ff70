#include "graders/sandbox/sandbox_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr size_t kReadBytes = 64 << 10;

void BlockSigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SandboxProcess>> SandboxProcess::Start(const SpawnOptions& options) {
  BlockSigpipe();  // writing to a process that has ended is no reason to end ours
  RFT_ASSIGN_OR_RETURN(const SpawnedProcess process, SpawnProcess(options));
  return std::unique_ptr<SandboxProcess>(new SandboxProcess(process));
}

SandboxProcess::~SandboxProcess() {
  Kill();
  while (waitpid(process_.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  for (int* fd :
       {&process_.requests_fd, &process_.replies_fd, &process_.output_fd, &process_.exit_fd})
    Close(*fd);
}

void SandboxProcess::Close(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
}

void SandboxProcess::Kill() {
  KillGroup(process_.pid);
  ended_ = true;
}

absl::Status SandboxProcess::WaitReady(double deadline_s) {
  const Clock::time_point deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                        std::chrono::duration<double>(deadline_s));
  SandboxProcess* const self[] = {this};
  while (true) {
    if (TakeFrame().has_value()) return absl::OkStatus();
    if (ended_) break;
    if (!Pump(self, deadline)) {
      return absl::FailedPreconditionError(absl::StrCat("not ready within ", deadline_s, " s"));
    }
  }
  const int status = ExitStatus(deadline);
  for (int i = 0; i < 50 && process_.output_fd >= 0; ++i) {
    ReadPrinted();
    if (process_.output_fd >= 0) usleep(1000);
  }
  return absl::FailedPreconditionError(
      absl::StrCat("ended with status ", status, printed_.empty() ? "" : ": ", printed_));
}

std::optional<std::string> SandboxProcess::TakeFrame() {
  absl::StatusOr<std::optional<std::string>> frame = frames_.Next();
  if (!frame.ok()) {
    Kill();
    return std::nullopt;
  }
  return *std::move(frame);
}

// False: nothing came.
bool SandboxProcess::ReadReplies() {
  char buffer[kReadBytes];
  const ssize_t count = read(process_.replies_fd, buffer, sizeof buffer);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (count <= 0) {
    Close(process_.replies_fd);
    ended_ = true;
    return true;
  }
  const std::string_view bytes(buffer, static_cast<size_t>(count));
  if (max_raw_bytes_ == 0) {
    frames_.Append(bytes);
  } else if (raw_.size() + bytes.size() > max_raw_bytes_) {
    overflowed_ = true;
    Kill();
  } else {
    raw_.append(bytes);
  }
  return true;
}

void SandboxProcess::ReadPrinted() {
  char buffer[kReadBytes];
  const ssize_t count = read(process_.output_fd, buffer, sizeof buffer);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return Close(process_.output_fd);
  printed_.append(buffer, static_cast<size_t>(count));
  if (printed_.size() > kPrintedKept) printed_.erase(0, printed_.size() - kPrintedKept);
}

void SandboxProcess::Flush() {
  while (written_ < to_write_.size()) {
    const ssize_t count =
        write(process_.requests_fd, to_write_.data() + written_, to_write_.size() - written_);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) {  // it has closed its input: whether that matters shows in what it answers
      Close(process_.requests_fd);
      break;
    }
    written_ += static_cast<size_t>(count);
  }
  to_write_.clear();
  written_ = 0;
  if (close_input_) Close(process_.requests_fd);
}

bool SandboxProcess::Pump(absl::Span<SandboxProcess* const> processes, Clock::time_point deadline) {
  while (true) {
    std::vector<pollfd> fds;
    for (SandboxProcess* process : processes) {
      const bool writing = process->written_ < process->to_write_.size() || process->close_input_;
      // poll skips negative descriptors.
      fds.push_back({process->ended_ ? -1 : process->process_.replies_fd, POLLIN, 0});
      fds.push_back({process->ended_ ? -1 : process->process_.output_fd, POLLIN, 0});
      fds.push_back({process->ended_ || !writing ? -1 : process->process_.requests_fd, POLLOUT, 0});
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    const int ready =
        poll(fds.data(), fds.size(), static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (ready < 0 && errno != EINTR) return false;
    bool news = false;
    for (size_t i = 0; ready > 0 && i < processes.size(); ++i) {
      SandboxProcess& process = *processes[i];
      if (fds[3 * i + 1].revents != 0) process.ReadPrinted();
      if (fds[3 * i + 2].revents != 0) process.Flush();
      if (fds[3 * i].revents != 0) news |= process.ReadReplies();
    }
    if (news) return true;
  }
}

int SandboxProcess::ExitStatus(Clock::time_point deadline) {
  while (true) {
    siginfo_t info = {};
    if (waitid(P_PID, static_cast<id_t>(process_.pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0)
      return -1;
    if (info.si_pid != 0) return info.si_code == CLD_EXITED ? info.si_status : -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return -1;
    pollfd exit = {process_.exit_fd, POLLIN, 0};
    poll(&exit, 1, static_cast<int>(process_.exit_fd >= 0 ? std::min<int64_t>(left, 60'000) : 1));
  }
}

}  // namespace rft
