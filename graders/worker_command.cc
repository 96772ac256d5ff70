#include "graders/worker_command.h"

#include <cstdlib>
#include <mutex>

namespace rft {
namespace {

struct Setting {
  std::mutex mutex;
  std::vector<std::string> argv;
};

Setting& TheSetting() {
  static Setting* setting = new Setting;
  return *setting;
}

}  // namespace

void SetWorkerCommand(std::vector<std::string> argv) {
  std::lock_guard<std::mutex> lock(TheSetting().mutex);
  TheSetting().argv = std::move(argv);
}

std::vector<std::string> WorkerCommand() {
  std::lock_guard<std::mutex> lock(TheSetting().mutex);
  if (!TheSetting().argv.empty()) return TheSetting().argv;
  const char* python = std::getenv("RFT_PYTHON");
  return {python != nullptr && *python != '\0' ? python : "python3", "-m", "rft._worker"};
}

}  // namespace rft
