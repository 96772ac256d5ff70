// Starting, killing and waiting for one worker process. POSIX; Linux for the parent-death signal.
//
// The process: fd 0 = requests, fd 1 = replies, fd 2 = what it prints (the worker moves its stdout there too); every
// other descriptor of ours is closed; own process group, so that what it forks can be killed with it; no core dumps; dies
// when the thread that spawned it ends (so spawn from a thread that lives as long as the worker should).
// What is not contained: a child that calls setsid(), files, network. Worker code is the user's own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace rft {

inline constexpr int kStartsFd = 3;

struct SpawnOptions {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH; not empty
  int64_t memory_limit_mb = 0;    // RLIMIT_AS in MiB; 0 = none
  int num_cpus = 0;  // CPUs of ours that it may run on, others for each process; 0 = all
  // What follows is for graders/sandbox.
  std::string executable;          // absolute path; argv[0] is then only the name that `ps` shows
  bool empty_environment = false;  // needs `executable`
  std::vector<std::pair<int, uint64_t>> limits;  // more setrlimit: {RLIMIT_CPU, 10}
  std::vector<int> keep_fds;                     // stay open under their numbers, all > 2
  // Of workers: a descriptor of ours that they have as kStartsFd; -1 = none. Not together with keep_fds.
  int starts_fd = -1;
  int run_as_id = 0;  // user and group to change to, without further groups; 0 = stay. Needs root.
};

// Plain descriptors, all non-blocking and close-on-exec; whoever gets this closes them and reaps `pid`.
struct SpawnedProcess {
  pid_t pid = -1;
  int requests_fd = -1;  // write
  int replies_fd = -1;   // read
  int output_fd = -1;    // read
  int exit_fd = -1;  // readable when the process has exited (pidfd); -1 where the kernel has none
};

// kInvalidArgument: argv[0] can't be executed. kResourceExhausted: no pipes, no processes.
absl::StatusOr<SpawnedProcess> SpawnProcess(const SpawnOptions& options);

// How it ended ("killed by signal 11 (Segmentation fault)", "exited with status 3"), without reaping it; nullopt while it
// runs.
std::optional<std::string> ExitCause(pid_t pid);

// SIGKILL to the whole group. REQUIRES: `pid` has not been reaped (a zombie keeps the number from being reused).
void KillGroup(pid_t pid);

// True once the process is reaped (or was never ours to reap). Does not block.
bool TryReap(pid_t pid);

}  // namespace rft
