#include "rft/serve/weights_control.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"

namespace rft::serve {

namespace fs = std::filesystem;

WeightsControl::WeightsControl(std::string root, int64_t version, Load load)
    : root_(std::move(root)), load_(std::move(load)), version_(version) {}

absl::StatusOr<std::string> WeightsControl::Resolve(const std::string& folder) const {
  if (root_.empty())
    return absl::PermissionDeniedError(
        "this server takes no weights; start it with --weights-root DIR to allow folders below "
        "DIR");
  std::error_code error;
  const fs::path root = fs::canonical(root_, error);
  if (error) return absl::NotFoundError(absl::StrCat("--weights-root ", root_, ": no such folder"));
  const fs::path resolved = fs::canonical(root / folder, error);  // follows symbolic links
  const auto [end, rest] =
      std::mismatch(root.begin(), root.end(), resolved.begin(), resolved.end());
  const bool below = !error && end == root.end();
  if (!error && !below)
    return absl::PermissionDeniedError("path: is not below the server's --weights-root");
  if (error) return absl::NotFoundError("path: no such folder below the server's --weights-root");
  return resolved.string();
}

absl::StatusOr<int64_t> WeightsControl::Update(const std::string& folder,
                                               const std::string& label) {
  if (!load_) return absl::UnimplementedError("this engine's weights can't be replaced");
  RFT_ASSIGN_OR_RETURN(const std::string resolved, Resolve(folder));
  std::unique_lock<std::mutex> one(updating_, std::try_to_lock);
  if (!one.owns_lock()) return absl::AbortedError("another weight update is under way");
  RFT_ASSIGN_OR_RETURN(const int64_t version, load_(resolved));
  version_ = version;
  std::lock_guard<std::mutex> lock(mutex_);
  folder_ = resolved;
  label_ = label;
  return version;
}

std::string WeightsControl::folder() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return folder_;
}

std::string WeightsControl::label() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return label_;
}

}  // namespace rft::serve
