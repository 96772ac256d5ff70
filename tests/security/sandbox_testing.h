// Helpers of the sandbox suites: corpora of programs, and proof that nothing is left behind.
#pragma once

#include <dirent.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graders/sandbox/sandbox.h"

namespace rft {

struct CorpusProgram {
  std::string name;
  std::string mark;  // "harmless" of "### name [harmless]"
  std::string source;
};

// Text before the first "### " is a comment.
inline std::vector<CorpusProgram> ReadCorpus(const std::string& file) {
  std::ifstream in(absl::StrCat(RFT_TEST_DATA_DIR, "/security/testdata/", file));
  std::vector<CorpusProgram> programs;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("### ", 0) == 0) {
      programs.push_back({line.substr(4), "", ""});
      std::string& name = programs.back().name;
      if (const size_t mark = name.find(" ["); mark != std::string::npos) {
        programs.back().mark = name.substr(mark + 2, name.size() - mark - 3);
        name.resize(mark);
      }
    } else if (!programs.empty()) {
      programs.back().source += line + "\n";
    }
  }
  return programs;
}

// Processes of sandboxes that this process started: those that hold a sandbox, and those inside.
inline int CountSandboxProcesses() {
  const std::string inside = absl::StrCat("RFT_SANDBOX=", getpid());
  int count = 0;
  DIR* proc = opendir("/proc");
  while (const dirent* entry = readdir(proc)) {
    std::string name, variable;
    std::ifstream command(absl::StrCat("/proc/", entry->d_name, "/cmdline"));
    std::getline(command, name, '\0');
    std::ifstream environment(absl::StrCat("/proc/", entry->d_name, "/environ"));
    while (variable != inside && std::getline(environment, variable, '\0')) {
    }
    if (name == Sandbox::ProcessName() || variable == inside) ++count;
  }
  closedir(proc);
  return count;
}

// What is left of them after at most `seconds`.
inline int SandboxProcessesLeft(double seconds = 2.0) {
  for (int i = 0; i < seconds * 100 && CountSandboxProcesses() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return CountSandboxProcesses();
}

}  // namespace rft
