// Paths that come from files (a manifest, a shard index) must stay inside their folder.
#pragma once

#include <filesystem>
#include <string>

namespace rft {

// A non-empty relative path without ".." and without a NUL: joined to a folder, it stays below it
// (symbolic links aside).
inline bool IsSafeRelativePath(const std::string& text) {
  if (text.empty() || text.find('\0') != text.npos) return false;
  const std::filesystem::path path(text);
  if (path.is_absolute() || path.filename().empty()) return false;
  for (const std::filesystem::path& part : path) {
    if (part == "..") return false;
  }
  return true;
}

}  // namespace rft
