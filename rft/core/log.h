// Short lines for people on stderr: "12:03:55 I step 12 group 40: ...". What machines read goes to
// metrics.jsonl, rollouts.jsonl and events.jsonl instead (rft/io/jsonl_writer.h). Losses and
// graders return metrics and don't log.
//
//   LogInfo("step ", step, ": reward ", reward);   // anything absl::StrCat takes
//
// Thread safety: all functions may be called from any thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace rft {

enum class LogLevel { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3, kOff = 4 };

// "debug", "info", "warning", "error", "off"; nullopt otherwise.
std::optional<LogLevel> ParseLogLevel(std::string_view name);

// Lines below `level` are dropped. Default: kInfo, or what the environment variable RFT_LOG_LEVEL
// says.
void SetLogLevel(LogLevel level);
LogLevel GetLogLevel();

// Where lines go instead of stderr (tests, notebooks); an empty function puts stderr back.
using LogSink = std::function<void(LogLevel, std::string_view)>;
void SetLogSink(LogSink sink);

void Log(LogLevel level, std::string_view line);

template <typename... Args>
void LogAt(LogLevel level, const Args&... args) {
  if (level >= GetLogLevel()) Log(level, absl::StrCat(args...));
}
template <typename... Args>
void LogDebug(const Args&... args) {
  LogAt(LogLevel::kDebug, args...);
}
template <typename... Args>
void LogInfo(const Args&... args) {
  LogAt(LogLevel::kInfo, args...);
}
template <typename... Args>
void LogWarning(const Args&... args) {
  LogAt(LogLevel::kWarning, args...);
}
template <typename... Args>
void LogError(const Args&... args) {
  LogAt(LogLevel::kError, args...);
}

}  // namespace rft
