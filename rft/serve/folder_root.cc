#include "rft/serve/folder_root.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace rft::serve {

namespace fs = std::filesystem;

absl::StatusOr<std::string> ResolveFolder(const std::string& root, const std::string& folder,
                                          const std::string& field) {
  if (root.empty())
    return absl::PermissionDeniedError(
        "this server takes no weights; start it with --weights-root DIR to allow folders below "
        "DIR");
  if (folder.find('\0') != folder.npos)
    return absl::InvalidArgumentError(absl::StrCat(field, ": contains a NUL"));
  std::error_code error;
  const fs::path real_root = fs::canonical(root, error);
  if (error) return absl::NotFoundError(absl::StrCat("--weights-root ", root, ": no such folder"));
  const fs::path resolved = fs::canonical(real_root / folder, error);  // follows symbolic links
  if (error)
    return absl::NotFoundError(
        absl::StrCat(field, ": no such folder below the server's --weights-root"));
  const auto [end, rest] =
      std::mismatch(real_root.begin(), real_root.end(), resolved.begin(), resolved.end());
  if (end != real_root.end())
    return absl::PermissionDeniedError(
        absl::StrCat(field, ": is not below the server's --weights-root"));
  return resolved.string();
}

}  // namespace rft::serve
