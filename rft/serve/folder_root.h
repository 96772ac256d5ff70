// The folders that clients may have loaded: those below one root.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace rft::serve {

// The real path of `folder` (relative ones start at `root`), after symbolic links. kPermissionDenied: it is not below the
// root, or there is none ("" = no client may load anything); kNotFound: no such folder. Messages begin with `field`.
absl::StatusOr<std::string> ResolveFolder(const std::string& root, const std::string& folder,
                                          const std::string& field);

}  // namespace rft::serve
