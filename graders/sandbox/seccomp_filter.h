// The system calls that a sandboxed program may make, as a classic BPF program for `bwrap --seccomp`.
//
// An allow-list: whatever is not on it fails with EPERM (clone3 with ENOSYS, so that the C library falls back to clone).
// Not on it: sockets of any kind, new namespaces, mounts, ptrace, keys, bpf, perf events, io_uring, memfd and shared memory
// (memory that no limit of the process counts), other processes' memory, signals to other processes, and terminals' ioctls.
// Thread safety: free function; any thread.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace rft {

enum class Processes {
  kNone,  // threads only: a program can't start another, so a fork bomb is one failed call
  kFork,  // a compiler needs its children
};

// kUnavailable: libseccomp can't write the filter for this machine.
absl::StatusOr<std::string> SeccompProgram(Processes processes);

}  // namespace rft
