#include "graders/sandbox/seccomp_filter.h"

#include <errno.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <memory>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

// What an interpreter, a compiler and ordinary programs need. By name: libseccomp knows the numbers, and names that this
// machine's architecture lacks are skipped.
constexpr const char* kAllowed[] = {
    // memory
    "brk", "mmap", "mprotect", "munmap", "mremap", "madvise", "mincore", "membarrier",
    "get_mempolicy",
    // files
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "open",
    "openat", "openat2", "creat", "close", "close_range", "lseek", "dup", "dup2", "dup3", "pipe",
    "pipe2", "fcntl", "flock", "fsync", "fdatasync", "ftruncate", "truncate", "fallocate",
    "fadvise64", "sendfile", "copy_file_range", "stat", "fstat", "lstat", "newfstatat", "statx",
    "access", "faccessat", "faccessat2", "getdents", "getdents64", "getcwd", "chdir", "fchdir",
    "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link",
    "linkat", "symlink", "symlinkat", "readlink", "readlinkat", "chmod", "fchmod", "fchmodat",
    "umask", "utime", "utimes", "utimensat", "futimesat", "statfs", "fstatfs", "sync_file_range",
    "getxattr", "lgetxattr", "fgetxattr",
    // waiting
    "poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "timerfd_create",
    "timerfd_settime", "timerfd_gettime", "signalfd", "signalfd4", "nanosleep", "clock_nanosleep",
    "pause",
    // time
    "clock_gettime", "clock_getres", "gettimeofday", "time", "times", "getitimer", "setitimer",
    "alarm", "timer_create", "timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete",
    // threads and this process
    "futex", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "set_tid_address",
    "arch_prctl", "sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler",
    "sched_get_priority_max", "sched_get_priority_min", "getcpu", "exit", "exit_group", "wait4",
    "waitid", "execve", "execveat", "restart_syscall", "getpid", "getppid", "gettid", "getpgid",
    "getpgrp", "getsid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid",
    "getresgid", "getrlimit", "prlimit64", "setrlimit", "getrusage", "sysinfo", "uname", "capget",
    "getpriority", "getrandom", "tgkill",
    // signals to itself
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigsuspend",
    "rt_sigtimedwait", "sigaltstack"};

constexpr uint64_t kNewNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
constexpr unsigned long kIoctls[] = {TCGETS, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, TIOCGWINSZ};
constexpr int kPrctls[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_PDEATHSIG};

struct Filter {
  scmp_filter_ctx context;
  int error = 0;

  void Allow(const char* name) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number != __NR_SCMP_ERROR) Check(seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 0));
  }
  void AllowIf(const char* name, scmp_arg_cmp condition) {
    const int number = seccomp_syscall_resolve_name(name);
    Check(seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 1, condition));
  }
  void Check(int result) {
    if (result < 0 && error == 0) error = -result;
  }
};

absl::StatusOr<std::string> Export(scmp_filter_ctx context) {
  const int fd = memfd_create("filter", MFD_CLOEXEC);
  if (fd < 0) return absl::UnavailableError(strerror(errno));
  std::string program;
  if (const int result = seccomp_export_bpf(context, fd); result < 0) {
    close(fd);
    return absl::UnavailableError(absl::StrCat("seccomp filter: ", strerror(-result)));
  }
  program.resize(static_cast<size_t>(lseek(fd, 0, SEEK_END)));
  const ssize_t got = pread(fd, program.data(), program.size(), 0);
  close(fd);
  if (got != static_cast<ssize_t>(program.size())) return absl::UnavailableError("seccomp filter");
  return program;
}

}  // namespace

absl::StatusOr<std::string> SeccompProgram(Processes processes) {
  Filter filter{seccomp_init(SCMP_ACT_ERRNO(EPERM))};
  if (filter.context == nullptr) return absl::UnavailableError("libseccomp can't make a filter");
  const std::unique_ptr<void, void (*)(void*)> owner(filter.context, seccomp_release);
  for (const char* name : kAllowed) filter.Allow(name);
  for (const unsigned long request : kIoctls) {
    filter.AllowIf("ioctl", SCMP_A1(SCMP_CMP_EQ, request));
  }
  for (const int option : kPrctls) {
    filter.AllowIf("prctl", SCMP_A0(SCMP_CMP_EQ, static_cast<uint64_t>(option)));
  }
  if (processes == Processes::kFork) {
    filter.AllowIf("clone", SCMP_A0(SCMP_CMP_MASKED_EQ, kNewNamespaces, 0));
    filter.Allow("fork");
    filter.Allow("vfork");
    filter.Allow("kill");
  } else {
    filter.AllowIf("clone",
                   SCMP_A0(SCMP_CMP_MASKED_EQ, kNewNamespaces | CLONE_THREAD, CLONE_THREAD));
  }
  filter.Check(seccomp_rule_add(filter.context, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0));
  if (filter.error != 0) {
    return absl::UnavailableError(absl::StrCat("seccomp filter: ", strerror(filter.error)));
  }
  return Export(filter.context);
}

}  // namespace rft
