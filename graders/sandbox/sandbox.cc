#include "graders/sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "graders/sandbox/driver.h"
#include "graders/sandbox/sandbox_process.h"
#include "graders/worker_command.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr int kNobody = 65534;
constexpr double kProbeDeadlineS = 20.0;

std::string FindInPath(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  const char* path = getenv("PATH");
  for (const absl::string_view folder :
       absl::StrSplit(path == nullptr ? "/usr/bin:/bin" : path, ':')) {
    const std::string candidate = absl::StrCat(folder, "/", program);
    if (!folder.empty() && access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

std::string Resolved(const std::string& path) {
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(path, error);
  return error ? "" : real.string();
}

// An interpreter given, else those that are likely to be there. A virtual environment's is resolved to the one behind it.
std::vector<std::string> Interpreters(const std::string& given) {
  if (!given.empty()) return {Resolved(given)};
  std::vector<std::string> found;
  for (const std::string& name :
       {FindInPath("/usr/bin/python3"), FindInPath(WorkerCommand()[0]), FindInPath("python3")}) {
    const std::string path = name.empty() ? "" : Resolved(name);
    // A shell script in front of an interpreter (pyenv's shims) is no interpreter.
    if (!path.empty() && path.find("shims") == std::string::npos &&
        std::find(found.begin(), found.end(), path) == found.end()) {
      found.push_back(path);
    }
  }
  return found;
}

// /opt/python/bin/python3 -> /opt/python
std::string PrefixOf(const std::string& python) {
  const std::filesystem::path prefix = std::filesystem::path(python).parent_path().parent_path();
  return prefix.string().starts_with("/usr") ? "" : prefix.string();
}

int FdWith(const std::string& bytes) {
  const int fd = memfd_create("rft-filter", MFD_CLOEXEC);
  if (fd < 0) return -1;
  if (write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    close(fd);
    return -1;
  }
  lseek(fd, 0, SEEK_SET);
  const int above = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  close(fd);
  return above;
}

}  // namespace

SandboxCommand::SandboxCommand(SandboxCommand&& other) noexcept
    : spawn(std::move(other.spawn)), filter_fd(std::exchange(other.filter_fd, -1)) {}

SandboxCommand::~SandboxCommand() {
  if (filter_fd >= 0) close(filter_fd);
}

std::string Sandbox::ProcessName() { return absl::StrCat("rft-sandbox:", getpid()); }

absl::StatusOr<std::shared_ptr<const Sandbox>> Sandbox::Create(SandboxOptions options) {
  std::shared_ptr<Sandbox> sandbox(new Sandbox(options));
  std::vector<std::string> refusals;
  const std::vector<std::string> interpreters = Interpreters(options.python);
  sandbox->bwrap_ = FindInPath(options.bwrap);
  if (sandbox->bwrap_.empty()) {
    refusals.push_back(
        absl::StrCat("no program \"", options.bwrap, "\" (apt-get install bubblewrap)"));
  } else {
    RFT_ASSIGN_OR_RETURN(sandbox->filter_, SeccompProgram(Processes::kNone));
    RFT_ASSIGN_OR_RETURN(sandbox->forking_filter_, SeccompProgram(Processes::kFork));
    for (const int id : geteuid() == 0 ? std::vector<int>{kNobody, 0} : std::vector<int>{0}) {
      for (const std::string& python : interpreters) {
        const absl::Status status = sandbox->Try(python, id);
        if (status.ok()) return sandbox;
        refusals.push_back(
            absl::StrCat(python, id == 0 ? "" : " as nobody", ": ", status.message()));
      }
    }
  }
  if (options.allow_unisolated) {
    sandbox->isolated_ = false;
    for (const std::string& python : interpreters) {
      const absl::Status status = sandbox->Try(python, 0);
      if (status.ok()) return sandbox;
      refusals.push_back(absl::StrCat(python, " without isolation: ", status.message()));
    }
  }
  if (interpreters.empty())
    refusals.push_back("no python3 (apt-get install python3, or set python)");
  return absl::FailedPreconditionError(absl::StrCat(
      "code that a model wrote can't be isolated here:\n  ", absl::StrJoin(refusals, "\n  "),
      "\nAllow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or "
      "kernel.apparmor_restrict_unprivileged_userns=0), or run in a container that allows them; or "
      "set "
      "allow_unisolated_code: true if this machine holds nothing worth protecting"));
}

absl::Status Sandbox::Try(const std::string& python, int run_as_id) {
  options_.python = python;
  python_prefix_ = PrefixOf(python);
  run_as_id_ = run_as_id;
  RFT_ASSIGN_OR_RETURN(SandboxCommand command, Python());
  RFT_ASSIGN_OR_RETURN(std::unique_ptr<SandboxProcess> process,
                       SandboxProcess::Start(command.spawn));
  return process->WaitReady(kProbeDeadlineS);
}

absl::StatusOr<SandboxCommand> Sandbox::Python() const {
  // -I -S: nothing of the user's or the site's; -B: no .pyc files.
  return Program({options_.python, "-I", "-S", "-B", "-c", kSandboxDriver}, Processes::kNone);
}

absl::StatusOr<SandboxCommand> Sandbox::Program(const std::vector<std::string>& argv,
                                                Processes processes, const std::string& folder,
                                                bool writable) const {
  SandboxCommand command;
  SpawnOptions& spawn = command.spawn;
  spawn.empty_environment = true;
  spawn.memory_limit_mb = options_.memory_limit_mb;
  const rlim_t file_bytes = static_cast<rlim_t>(options_.tmp_limit_mb) << 20;
  spawn.limits = {{RLIMIT_CPU, static_cast<uint64_t>(std::ceil(options_.cpu_limit_s))},
                  {RLIMIT_FSIZE, file_bytes},
                  {RLIMIT_NOFILE, 64},
                  {RLIMIT_MEMLOCK, 0},
                  {RLIMIT_MSGQUEUE, 0}};
  if (!isolated_) {
    spawn.executable = argv[0];
    spawn.argv = argv;
    return command;
  }
  command.filter_fd = FdWith(processes == Processes::kNone ? filter_ : forking_filter_);
  if (command.filter_fd < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("seccomp filter: ", strerror(errno)));
  }
  spawn.keep_fds = {command.filter_fd};
  spawn.executable = bwrap_;
  spawn.run_as_id = run_as_id_;
  // --as-pid-1: no process of bubblewrap's own in there, whose memory would be a way around the filter.
  std::vector<std::string>& args = spawn.argv;
  args = {ProcessName(),
          "--unshare-user",
          "--disable-userns",
          "--unshare-pid",
          "--unshare-net",
          "--unshare-ipc",
          "--unshare-uts",
          "--unshare-cgroup-try",
          "--as-pid-1",
          "--uid",
          "65534",
          "--gid",
          "65534",
          "--hostname",
          "sandbox",
          "--die-with-parent",
          "--new-session",
          "--clearenv",
          "--cap-drop",
          "ALL",
          "--setenv",
          "PATH",
          "/usr/bin:/bin",
          "--setenv",
          "LANG",
          "C.UTF-8",
          "--seccomp",
          std::to_string(command.filter_fd),
          "--ro-bind",
          "/usr",
          "/usr"};
  for (const std::string name : {"/bin", "/sbin", "/lib", "/lib32", "/lib64"}) {
    std::error_code error;
    const std::filesystem::path target = std::filesystem::read_symlink(name, error);
    if (!error) {
      args.insert(args.end(), {"--symlink", target.string(), name});
    } else if (std::filesystem::is_directory(name, error)) {
      args.insert(args.end(), {"--ro-bind", name, name});
    }
  }
  if (!python_prefix_.empty())
    args.insert(args.end(), {"--ro-bind", python_prefix_, python_prefix_});
  if (!folder.empty()) args.insert(args.end(), {writable ? "--bind" : "--ro-bind", folder, "/box"});
  args.insert(args.end(), {"--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--size",
                           std::to_string(file_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp",
                           "--remount-ro", "/", "--"});
  args.insert(args.end(), argv.begin(), argv.end());
  return command;
}

}  // namespace rft
