// Which weights are served, and the one way to change them over HTTP.
// Thread safety: all methods may be called from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"

namespace rft::serve {

class WeightsControl {
 public:
  using Load = std::function<absl::StatusOr<int64_t>(const std::string& folder)>;
  WeightsControl(std::string root, int64_t version, Load load);

  // Loads `folder` (relative ones start at the root) and returns the version it got; blocks. `label`: the caller's own name
  // for it. kPermissionDenied: not below the root, or there is none; kAborted: another update is under way; kNotFound and
  // kInvalidArgument: what the folder lacks. After an error the old weights stay.
  absl::StatusOr<int64_t> Update(const std::string& folder, const std::string& label);

  int64_t version() const { return version_.load(); }
  std::string folder() const;
  std::string label() const;

 private:
  const std::string root_;
  const Load load_;
  std::atomic<int64_t> version_;
  std::mutex updating_;
  mutable std::mutex mutex_;  // guards what follows
  std::string folder_, label_;
};

}  // namespace rft::serve
