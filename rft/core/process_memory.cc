#include "rft/core/process_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace rft {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

// The number after `key` in a file of lines "Key:   123 kB"; kUnknown if it isn't there.
int64_t KilobytesOf(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) << 10;
  return kUnknown;
}

// The number that a file consists of; kUnknown for "max" and where there is none.
int64_t NumberIn(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : kUnknown;
}

}  // namespace

int64_t ResidentBytes() { return KilobytesOf("/proc/self/status", "VmRSS"); }

int64_t AvailableBytes() {
  int64_t available = KilobytesOf("/proc/meminfo", "MemAvailable");
  // Version 2 of control groups, then version 1.
  const std::pair<const char*, const char*> groups[] = {
      {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
       "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
  for (const auto& [limit_file, used_file] : groups) {
    const int64_t limit = NumberIn(limit_file), used = NumberIn(used_file);
    if (limit != kUnknown && used != kUnknown)
      available = std::min(available, std::max<int64_t>(0, limit - used));
  }
  return available;
}

}  // namespace rft
