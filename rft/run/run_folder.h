// The folder of one run:
//
//   config.json      resolved configuration          metrics.jsonl   one object per step
//   graders.json     what each grader was (rft/run/grader_watch.h)
//   rollouts.jsonl   every rollout sampled           events.jsonl    what happened, with times
//   journal          finished groups since the last checkpoint (rft/io/journal.h)
//   checkpoints/step-N/   eval-before.json   eval-after.json   model/   summary.json
//
// Thread safety: belongs to one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/config/run_config.h"
#include "rft/core/file_system.h"
#include "rft/core/json_writer.h"
#include "rft/io/jsonl_writer.h"

namespace rft {

// Bytes of metrics.jsonl and rollouts.jsonl, by name: with them a checkpoint knows which lines belong to the steps before
// it. events.jsonl is history and is never cut.
using LogSizes = std::map<std::string, int64_t>;

class RunFolder {
 public:
  // A new folder: config.run_dir, or runs/<name>/<UTC time>[-n] below the working directory. Writes config.json.
  // kAlreadyExists if config.run_dir holds a run.
  static absl::StatusOr<std::unique_ptr<RunFolder>> Create(const RunConfig& config, FileSystem& fs);
  // The folder of a run that goes on. kNotFound if `dir` is not a run folder.
  static absl::StatusOr<std::unique_ptr<RunFolder>> Open(const std::string& dir, FileSystem& fs);
  // What Create (without `resume_dir`) or Open would refuse, before there is anything to write.
  static absl::Status Check(const RunConfig& config, const std::string& resume_dir, FileSystem& fs);

  const std::string& dir() const { return dir_; }
  std::string Path(std::string_view name) const { return JoinPath(dir_, name); }
  FileSystem& fs() const { return fs_; }

  // Cuts the logs back to what they were; a log that is not in `sizes` is emptied. Before the first Append.
  absl::Status TruncateLogs(const LogSizes& sizes);
  absl::StatusOr<LogSizes> SizesOfLogs() const;

  // One line each. `object` is one JSON object without line breaks.
  absl::Status AppendMetrics(std::string_view object) { return Append("metrics.jsonl", object); }
  absl::Status AppendRollout(std::string_view object) { return Append("rollouts.jsonl", object); }
  // {"time", "event", <fields>}: `fields` are the members of a JSON object without its braces, or empty.
  absl::Status AppendEvent(std::string_view event, std::string_view fields = "");
  absl::Status SyncLogs();

  // Replaces the file in one step: readers see the old one or the new one.
  absl::Status WriteAtomically(std::string_view name, std::string_view bytes);

 private:
  RunFolder(std::string dir, FileSystem& fs) : dir_(std::move(dir)), fs_(fs) {}
  absl::Status Append(const std::string& log, std::string_view object);

  const std::string dir_;
  FileSystem& fs_;
  std::map<std::string, std::unique_ptr<JsonlWriter>> logs_;  // opened at their first line
};

}  // namespace rft
