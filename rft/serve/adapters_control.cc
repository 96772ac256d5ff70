#include "rft/serve/adapters_control.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/serve/folder_root.h"

namespace rft::serve {
namespace {

// What fits a path and a line of metrics or logs.
bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._-:/@").find(c) != std::string_view::npos;
  });
}

}  // namespace

AdaptersControl::AdaptersControl(std::string root, size_t max_adapters,
                                 std::vector<std::string> served,
                                 std::map<std::string, std::string> loaded, Load load,
                                 Unload unload)
    : root_(std::move(root)),
      max_adapters_(max_adapters),
      served_(std::move(served)),
      load_(std::move(load)),
      unload_(std::move(unload)),
      folders_(std::move(loaded)) {}

absl::Status AdaptersControl::Add(const std::string& name, const std::string& folder,
                                  bool replace) {
  if (!load_) return absl::UnimplementedError("this engine serves no adapters");
  if (!IsName(name))
    return absl::InvalidArgumentError(
        "lora_name: must be 1 to 128 letters, digits and . _ - : / @");
  if (std::find(served_.begin(), served_.end(), name) != served_.end())
    return absl::InvalidArgumentError("lora_name: is the name of the base model");
  RFT_ASSIGN_OR_RETURN(const std::string resolved, ResolveFolder(root_, folder, "lora_path"));
  std::unique_lock<std::mutex> one(updating_, std::try_to_lock);
  if (!one.owns_lock()) return absl::AbortedError("another adapter is being loaded");
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const bool known = folders_.contains(name);
    if (known && !replace)
      return absl::InvalidArgumentError(absl::StrCat(
          "lora_name: '", name, "' is loaded already; unload it, or send \"load_inplace\": true"));
    if (!known && folders_.size() >= max_adapters_)
      return absl::ResourceExhaustedError(absl::StrCat("lora_name: ", folders_.size(),
                                                       " adapters are loaded, the limit is ",
                                                       max_adapters_, "; unload one"));
  }
  RFT_RETURN_IF_ERROR(load_(name, resolved));
  std::lock_guard<std::mutex> lock(mutex_);
  folders_[name] = resolved;
  return absl::OkStatus();
}

absl::Status AdaptersControl::Remove(const std::string& name) {
  std::lock_guard<std::mutex> one(updating_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (folders_.erase(name) == 0)
      return absl::NotFoundError("lora_name: no adapter of this name is loaded");
  }
  return unload_(name);
}

bool AdaptersControl::Has(const std::string& name) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return folders_.contains(name);
}

std::map<std::string, std::string> AdaptersControl::folders() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return folders_;
}

}  // namespace rft::serve
