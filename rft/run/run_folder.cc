#include "rft/run/run_folder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "rft/config/config_dump.h"
#include "rft/config/config_reader.h"
#include "rft/core/clock.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"

namespace rft {
namespace {

constexpr const char* kStepLogs[] = {"metrics.jsonl", "rollouts.jsonl"};

std::string NewRunDir(const RunConfig& config, FileSystem& fs) {
  const std::string stamp = absl::FormatTime("%Y%m%dT%H%M%SZ", absl::Now(), absl::UTCTimeZone());
  const std::string base = JoinPath(JoinPath("runs", config.name), stamp);
  std::string dir = base;
  for (int n = 2; fs.Exists(dir); ++n) dir = absl::StrCat(base, "-", n);
  return dir;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunFolder>> RunFolder::Create(const RunConfig& config,
                                                             FileSystem& fs) {
  RFT_RETURN_IF_ERROR(Check(config, "", fs));
  const std::string dir = config.run_dir.empty() ? NewRunDir(config, fs) : config.run_dir;
  RFT_RETURN_IF_ERROR(fs.CreateDirs(JoinPath(dir, "checkpoints")));
  auto folder = std::unique_ptr<RunFolder>(new RunFolder(dir, fs));
  RFT_RETURN_IF_ERROR(folder->WriteAtomically("config.json", ResolvedJson(config)));
  return folder;
}

absl::StatusOr<std::unique_ptr<RunFolder>> RunFolder::Open(const std::string& dir, FileSystem& fs) {
  RFT_RETURN_IF_ERROR(Check({}, dir, fs));
  RFT_RETURN_IF_ERROR(fs.CreateDirs(JoinPath(dir, "checkpoints")));
  return std::unique_ptr<RunFolder>(new RunFolder(dir, fs));
}

absl::Status RunFolder::Check(const RunConfig& config, const std::string& resume_dir,
                              FileSystem& fs) {
  const std::string& dir = resume_dir.empty() ? config.run_dir : resume_dir;
  const bool is_run = !dir.empty() && fs.Exists(JoinPath(dir, "config.json"));
  if (resume_dir.empty() && is_run)
    return absl::AlreadyExistsError(
        AtKey(config, "run_dir",
              absl::StrCat(dir, " already holds a run; go on with it (--resume ", dir,
                           ") or choose another folder")));
  if (!resume_dir.empty() && !is_run)
    return absl::NotFoundError(
        absl::StrCat(JoinPath(dir, "config.json"), ": missing; ", dir, " is not a run folder"));
  return absl::OkStatus();
}

absl::Status RunFolder::TruncateLogs(const LogSizes& sizes) {
  for (const char* log : kStepLogs) {
    const std::string path = Path(log);
    if (!fs_.Exists(path)) continue;
    const auto it = sizes.find(log);
    const uint64_t wanted = it == sizes.end() ? 0 : static_cast<uint64_t>(it->second);
    RFT_ASSIGN_OR_RETURN(const uint64_t size, fs_.FileSize(path));
    if (size > wanted) RFT_RETURN_IF_ERROR(fs_.Truncate(path, wanted));
  }
  return absl::OkStatus();
}

absl::StatusOr<LogSizes> RunFolder::SizesOfLogs() const {
  LogSizes sizes;
  for (const char* log : kStepLogs) {
    if (!fs_.Exists(Path(log))) continue;
    RFT_ASSIGN_OR_RETURN(const uint64_t size, fs_.FileSize(Path(log)));
    sizes[log] = static_cast<int64_t>(size);
  }
  return sizes;
}

absl::Status RunFolder::Append(const std::string& log, std::string_view object) {
  std::unique_ptr<JsonlWriter>& writer = logs_[log];
  if (writer == nullptr) {
    RFT_ASSIGN_OR_RETURN(writer, JsonlWriter::Open(Path(log), fs_));
  }
  return writer->Append(object);
}

absl::Status RunFolder::AppendEvent(std::string_view event, std::string_view fields) {
  std::string line = absl::StrCat("{\"time\": ", JsonQuote(Clock::Default().WallIso()),
                                  ", \"event\": ", JsonQuote(event));
  if (!fields.empty()) line.append(", ").append(fields);
  return Append("events.jsonl", line + "}");
}

absl::Status RunFolder::SyncLogs() {
  for (auto& [name, writer] : logs_) {
    if (writer != nullptr) RFT_RETURN_IF_ERROR(writer->Sync());
  }
  return absl::OkStatus();
}

absl::Status RunFolder::WriteAtomically(std::string_view name, std::string_view bytes) {
  const std::string path = Path(name), temporary = path + ".tmp";
  RFT_RETURN_IF_ERROR(WriteFile(fs_, temporary, bytes));
  RFT_RETURN_IF_ERROR(fs_.Rename(temporary, path));
  return fs_.SyncDir(ParentPath(path));
}

}  // namespace rft
