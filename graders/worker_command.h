// The command that starts a Python grader's worker. Default: {$RFT_PYTHON or "python3", "-m", "rft._worker"}; the Python
// package sets {sys.executable, "-m", "rft._worker"}, so that workers run in the caller's environment.
// The interpreter needs the package `rft` on its path and neither torch nor the compiled extension.
// Thread safety: all functions may be called from any thread; a command counts for worker pools made after it is set.
#pragma once

#include <string>
#include <vector>

namespace rft {

// An empty command brings the default back.
void SetWorkerCommand(std::vector<std::string> argv);
std::vector<std::string> WorkerCommand();

}  // namespace rft
