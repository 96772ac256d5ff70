// Appends JSON objects to a file, one a line: metrics.jsonl, rollouts.jsonl, events.jsonl.
//
// Each line is handed to the operating system when it is appended, so readers (plots, `tail -f`)
// see it and a killed process loses nothing; Sync makes it survive a power cut. A line torn by an
// earlier crash is cut off by Open. Thread safety: Append and Sync may be called from several
// threads.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/core/file_system.h"

namespace rft {

class JsonlWriter {
 public:
  // Creates the file or continues it.
  static absl::StatusOr<std::unique_ptr<JsonlWriter>> Open(const std::string& path,
                                                           FileSystem& fs = FileSystem::Default());

  // REQUIRES: `json_object` is one JSON object without line breaks (JsonWriter with indent 0 makes
  // such).
  absl::Status Append(std::string_view json_object);
  absl::Status Append(const boost::json::object& object);
  absl::Status Sync();

 private:
  explicit JsonlWriter(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}

  std::mutex mutex_;
  const std::unique_ptr<WritableFile> file_;
};

}  // namespace rft
