// How programs that nobody vouches for are started: bubblewrap with new user, mount, pid, network, IPC, UTS and cgroup
// namespaces, a seccomp filter (graders/sandbox/seccomp_filter.h), resource limits, no environment, a session of its own.
//
// What a program in it sees: /usr and the interpreter read-only, a small /dev, its own /proc, and /tmp, a file system in
// memory with a size limit, the only place it can write to. No network, not even a loopback that anyone listens on.
// The program ends with us: killing the process that SpawnProcess returns ends everything in the sandbox.
//
// As root, programs run as user 65534 ("nobody"), or as root within the namespaces if only that works.
// Thread safety: immutable after Create.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graders/sandbox/seccomp_filter.h"
#include "graders/worker_process.h"

namespace rft {

struct SandboxOptions {
  std::string python;             // interpreter in the sandbox, absolute; "": the first that works
  int64_t memory_limit_mb = 512;  // address space of each process (RLIMIT_AS)
  int64_t tmp_limit_mb = 64;      // of /tmp
  double cpu_limit_s = 60.0;      // of each process; the deadline in real time is the caller's
  std::string bwrap = "bwrap";    // looked up in PATH
  // Where the kernel or its settings refuse isolation: run without it. Resource limits remain, nothing else does.
  bool allow_unisolated = false;
};

// A descriptor that the started program needs open; closed with this object, after SpawnProcess.
struct SandboxCommand {
  SandboxCommand() = default;
  SandboxCommand(SandboxCommand&& other) noexcept;
  ~SandboxCommand();
  SpawnOptions spawn;
  int filter_fd = -1;
};

class Sandbox {
 public:
  // Starts a Python in the sandbox to see that it works (some 50 ms). kFailedPrecondition: says what refuses, and what to do.
  static absl::StatusOr<std::shared_ptr<const Sandbox>> Create(SandboxOptions options);

  // The interpreter with graders/sandbox/driver.py, which waits for one job.
  absl::StatusOr<SandboxCommand> Python() const;
  // Any program; argv[0] is its path in the sandbox. `folder`, if not empty, is this machine's folder that the program
  // finds at /box, and may write to if `writable`.
  absl::StatusOr<SandboxCommand> Program(const std::vector<std::string>& argv, Processes processes,
                                         const std::string& folder = "",
                                         bool writable = false) const;

  bool isolated() const { return isolated_; }
  int run_as_id() const { return run_as_id_; }  // user of this machine; 0: ours
  const std::string& python() const { return options_.python; }

  // What `ps` shows as the name of the process that holds each sandbox of this process: "rft-sandbox:1234". What runs in
  // the sandbox has RFT_SANDBOX=1234 in its environment.
  static std::string ProcessName();

 private:
  explicit Sandbox(SandboxOptions options) : options_(std::move(options)) {}
  absl::Status Try(const std::string& python, int run_as_id);

  SandboxOptions options_;
  std::string bwrap_;          // absolute
  std::string python_prefix_;  // read-only in the sandbox beside /usr; empty: it is below /usr
  std::string filter_;         // BPF
  std::string forking_filter_;
  int run_as_id_ = 0;
  bool isolated_ = true;
};

}  // namespace rft
