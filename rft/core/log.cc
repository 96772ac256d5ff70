#include "rft/core/log.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace rft {
namespace {

LogLevel LevelFromEnvironment() {
  const char* name = std::getenv("RFT_LOG_LEVEL");
  return name == nullptr ? LogLevel::kInfo : ParseLogLevel(name).value_or(LogLevel::kInfo);
}

std::atomic<LogLevel>& CurrentLevel() {
  static std::atomic<LogLevel> level{LevelFromEnvironment()};
  return level;
}

// Not in spdlog's global registry: a program that uses spdlog too keeps its own settings.
spdlog::logger& StderrLogger() {
  static spdlog::logger* logger = [] {
    auto* made = new spdlog::logger("rft", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("%H:%M:%S %^%L%$ %v");
    made->set_level(spdlog::level::trace);  // filtering is ours
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    default:
      return spdlog::level::err;
  }
}

std::mutex& SinkMutex() {
  static std::mutex* mutex = new std::mutex;
  return *mutex;
}

std::shared_ptr<const LogSink>& CurrentSink() {
  static auto* sink = new std::shared_ptr<const LogSink>;
  return *sink;
}

}  // namespace

std::optional<LogLevel> ParseLogLevel(std::string_view name) {
  static constexpr std::string_view kNames[] = {"debug", "info", "warning", "error", "off"};
  for (int i = 0; i < 5; ++i) {
    if (name == kNames[i]) return static_cast<LogLevel>(i);
  }
  return std::nullopt;
}

void SetLogLevel(LogLevel level) { CurrentLevel() = level; }
LogLevel GetLogLevel() { return CurrentLevel(); }

void SetLogSink(LogSink sink) {
  std::lock_guard<std::mutex> lock(SinkMutex());
  CurrentSink() = sink ? std::make_shared<const LogSink>(std::move(sink)) : nullptr;
}

void Log(LogLevel level, std::string_view line) {
  if (level < GetLogLevel() || level == LogLevel::kOff) return;
  std::shared_ptr<const LogSink> sink;
  {
    std::lock_guard<std::mutex> lock(SinkMutex());
    sink = CurrentSink();
  }
  if (sink) {
    (*sink)(level, line);  // outside the lock: a sink may log or replace itself
  } else {
    StderrLogger().log(SpdlogLevel(level), spdlog::string_view_t(line.data(), line.size()));
  }
}

}  // namespace rft
