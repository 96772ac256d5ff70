#include "rft/serve/weights_control.h"

#include <utility>

#include "rft/core/status_macros.h"
#include "rft/serve/folder_root.h"

namespace rft::serve {

WeightsControl::WeightsControl(std::string root, int64_t version, Load load)
    : root_(std::move(root)), load_(std::move(load)), version_(version) {}

absl::StatusOr<int64_t> WeightsControl::Update(const std::string& folder,
                                               const std::string& label) {
  if (!load_) return absl::UnimplementedError("this engine's weights can't be replaced");
  RFT_ASSIGN_OR_RETURN(const std::string resolved, ResolveFolder(root_, folder, "path"));
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
