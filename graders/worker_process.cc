#include "graders/worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

constexpr unsigned kCloseRangeCloexec = 1u << 2;  // CLOSE_RANGE_CLOEXEC; older headers lack it

// Closes what it holds.
struct Pipe {
  int read = -1;
  int write = -1;
  ~Pipe() {
    if (read >= 0) close(read);
    if (write >= 0) close(write);
  }
  bool Open() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return false;
    // Above 3, so that the child's dup2 onto 0, 1, 2 and kStartsFd can't overwrite an end it still needs.
    read = fcntl(fds[0], F_DUPFD_CLOEXEC, kStartsFd + 1);
    write = fcntl(fds[1], F_DUPFD_CLOEXEC, kStartsFd + 1);
    close(fds[0]);
    close(fds[1]);
    return read >= 0 && write >= 0;
  }
};

int Release(int& fd) {
  const int released = fd;
  fd = -1;
  fcntl(released, F_SETFL, fcntl(released, F_GETFL) | O_NONBLOCK);
  return released;
}

struct ChildPlan {
  char* const* argv;
  const SpawnOptions* options;
  int requests, replies, output, exec_error;
  pid_t parent;
  rlim_t memory_bytes;    // 0 = no limit
  const cpu_set_t* cpus;  // null = all
  long max_fds;
};

// The next `count` of the CPUs that this thread may run on. False: all of them, or they can't be told.
bool ChooseCpus(int count, cpu_set_t& chosen) {
  static std::atomic<size_t> next{0};
  CPU_ZERO(&chosen);
  cpu_set_t ours;
  if (count <= 0 || sched_getaffinity(0, sizeof ours, &ours) != 0) return false;
  std::vector<size_t> cpus;
  for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &ours)) cpus.push_back(cpu);
  }
  const auto wanted = static_cast<size_t>(count);
  if (wanted >= cpus.size()) return false;
  const size_t first = next.fetch_add(wanted);
  for (size_t i = 0; i < wanted; ++i) CPU_SET(cpus[(first + i) % cpus.size()], &chosen);
  return true;
}

void CloseOthersOnExec(long max_fds) {
  if (syscall(SYS_close_range, 3u, ~0u, kCloseRangeCloexec) == 0) return;
  for (long fd = 3; fd < max_fds; ++fd) fcntl(static_cast<int>(fd), F_SETFD, FD_CLOEXEC);
}

// Tells the parent errno. An exec that succeeds closes the pipe instead.
[[noreturn]] void FailChild(const ChildPlan& plan) {
  const int error = errno;
  const ssize_t ignored = write(plan.exec_error, &error, sizeof error);
  (void)ignored;
  _exit(127);
}

// Runs in the child between vfork and exec, on the parent's memory: system calls only, nothing is written to but locals.
[[noreturn]] void RunChild(const ChildPlan& plan) {
  const SpawnOptions& options = *plan.options;
  setpgid(0, 0);
  if (options.run_as_id != 0) {
    // System calls, not glibc's functions: those change the ids of all threads, and we are on the parent's memory.
    const long id = options.run_as_id;
    if (syscall(SYS_setgroups, 0, nullptr) != 0 || syscall(SYS_setresgid, id, id, id) != 0 ||
        syscall(SYS_setresuid, id, id, id) != 0) {
      FailChild(plan);
    }
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != plan.parent) _exit(127);  // the parent died before the line above
  struct sigaction default_action = {};
  default_action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &default_action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (plan.cpus != nullptr) sched_setaffinity(0, sizeof *plan.cpus, plan.cpus);
  if (plan.memory_bytes > 0) {
    const rlimit memory = {plan.memory_bytes, plan.memory_bytes};
    setrlimit(RLIMIT_AS, &memory);
  }
  for (const auto& [resource, value] : options.limits) {
    const rlimit limit = {value, value};
    setrlimit(static_cast<__rlimit_resource>(resource), &limit);
  }
  dup2(plan.requests, 0);
  dup2(plan.replies, 1);
  dup2(plan.output, 2);
  CloseOthersOnExec(plan.max_fds);
  for (const int fd : options.keep_fds) fcntl(fd, F_SETFD, 0);
  if (options.starts_fd >= 0) {
    dup2(options.starts_fd, kStartsFd);
    fcntl(kStartsFd, F_SETFD, 0);
  }
  if (options.executable.empty()) {
    execvp(plan.argv[0], plan.argv);
  } else {
    char* const nothing[] = {nullptr};
    execve(options.executable.c_str(), plan.argv, options.empty_environment ? nothing : environ);
  }
  FailChild(plan);
}

}  // namespace

absl::StatusOr<SpawnedProcess> SpawnProcess(const SpawnOptions& options) {
  if (options.argv.empty()) return absl::InvalidArgumentError("the worker command is empty");
  Pipe requests, replies, output, exec_error;
  if (!requests.Open() || !replies.Open() || !output.Open() || !exec_error.Open()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("can't make pipes for a worker: ", strerror(errno)));
  }
  std::vector<char*> argv;
  for (const std::string& argument : options.argv)
    argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  cpu_set_t cpus;
  const bool some_cpus = ChooseCpus(options.num_cpus, cpus);
  const ChildPlan plan = {argv.data(),
                          &options,
                          requests.read,
                          replies.write,
                          output.write,
                          exec_error.write,
                          getpid(),
                          static_cast<rlim_t>(options.memory_limit_mb) << 20,
                          some_cpus ? &cpus : nullptr,
                          std::clamp(sysconf(_SC_OPEN_MAX), 256L, 65536L)};
  // vfork, not fork: copying the page tables of a process that holds a model takes tens of milliseconds and may be
  // refused for lack of memory. Signals are blocked so that no handler runs in the child on our memory.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = vfork();
  if (pid == 0) RunChild(plan);
  const int fork_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("can't start a worker process: ", strerror(fork_error)));
  }
  close(exec_error.write);
  exec_error.write = -1;
  int error = 0;
  if (read(exec_error.read, &error, sizeof error) == sizeof error) {
    waitpid(pid, nullptr, 0);
    return absl::InvalidArgumentError(absl::StrCat(
        "can't execute \"", options.executable.empty() ? options.argv[0] : options.executable,
        "\": ", strerror(error)));
  }
  SpawnedProcess process;
  process.pid = pid;
  process.requests_fd = Release(requests.write);
  process.replies_fd = Release(replies.read);
  process.output_fd = Release(output.read);
  process.exit_fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  return process;
}

std::optional<std::string> ExitCause(pid_t pid) {
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0) return "gone";
  if (info.si_pid == 0) return std::nullopt;
  if (info.si_code == CLD_EXITED) return absl::StrCat("exited with status ", info.si_status);
  const char* name = strsignal(info.si_status);
  return absl::StrCat("killed by signal ", info.si_status, " (", name == nullptr ? "?" : name, ")");
}

void KillGroup(pid_t pid) {
  kill(-pid, SIGKILL);
  kill(pid, SIGKILL);
}

bool TryReap(pid_t pid) {
  pid_t result;
  do {
    result = waitpid(pid, nullptr, WNOHANG);
  } while (result < 0 && errno == EINTR);
  return result != 0;
}

}  // namespace rft
