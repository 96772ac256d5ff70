// All file access of rft goes through FileSystem (leveldb's Env in spirit), so that tests can fail
// the n-th call or lose unsynced bytes (tests/testing/fault_file_system.h).
//
// Thread safety: a FileSystem may be used from any thread; a WritableFile from one thread at a
// time; a MappedFile is read-only. Errors carry the operation, the path and the reason of errno:
// kNotFound, kAlreadyExists, kPermissionDenied, kResourceExhausted (disk full), ...
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rft {

// A file being written from front to back. Bytes are durable after Sync(), visible to readers after
// Flush().
class WritableFile {
 public:
  // Closes without reporting errors; call Close() to learn about them.
  virtual ~WritableFile() = default;
  virtual absl::Status Append(std::string_view bytes) = 0;
  virtual absl::Status Flush() = 0;  // hands buffered bytes to the operating system
  virtual absl::Status Sync() = 0;   // Flush, then fsync
  virtual absl::Status Close() = 0;  // Flush, then close. Nothing may be called afterwards
};

// A whole file mapped read-only; unmapped on destruction.
class MappedFile {
 public:
  virtual ~MappedFile() = default;
  virtual const char* data() const = 0;  // nullptr for an empty file
  virtual size_t size() const = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // The machine's own (POSIX). Lives for the whole program.
  static FileSystem& Default();

  virtual absl::StatusOr<std::string> ReadFile(const std::string& path) = 0;
  // Creates the file, or empties an existing one.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> NewWritableFile(
      const std::string& path) = 0;
  // Creates the file, or continues at its end.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> NewAppendableFile(
      const std::string& path) = 0;
  virtual absl::StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) = 0;

  // Atomic; replaces an existing file. Durable after SyncDir of the parent.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status Remove(
      const std::string& path) = 0;  // a file or an empty folder; kNotFound if absent
  virtual absl::Status RemoveAll(
      const std::string& path) = 0;  // with everything below it; fine if absent
  virtual absl::Status CreateDirs(const std::string& path) = 0;  // with parents; fine if it exists
  virtual absl::Status Truncate(const std::string& path, uint64_t size) = 0;
  virtual absl::Status SyncFile(
      const std::string& path) = 0;  // fsync of a file somebody else wrote
  virtual absl::Status SyncDir(
      const std::string& path) = 0;  // makes creations and renames in it durable

  virtual bool Exists(const std::string& path) = 0;
  virtual bool IsDirectory(const std::string& path) = 0;
  virtual absl::StatusOr<uint64_t> FileSize(const std::string& path) = 0;
  // Names (not paths) of the entries, sorted, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> ListDir(const std::string& path) = 0;
};

// NewWritableFile, Append, Sync, Close. Not atomic: a crash may leave a part of it.
absl::Status WriteFile(FileSystem& fs, const std::string& path, std::string_view bytes);

// Replaces the file as a whole: after a crash `path` holds the old bytes or the new ones, never a
// mixture. Writes "<path>.tmp", fsyncs, renames, fsyncs the folder.
absl::Status ReplaceFile(FileSystem& fs, const std::string& path, std::string_view bytes);

// "a/b" + "c" = "a/b/c"; an absolute `path` is returned as it is.
std::string JoinPath(std::string_view dir, std::string_view path);
// "a/b/c" -> "a/b"; "c" -> "."; "/c" -> "/".
std::string ParentPath(std::string_view path);

}  // namespace rft
