// A FileSystem for tests that fails on demand and forgets what was never synced (after leveldb's
// db/fault_injection_test.cc), on top of the real one.
//
//   FaultFileSystem fs;
//   fs.FailFrom(5);       // the 5th changing call and all later ones fail: the process "dies" there
//   ... code under test ...
//   fs.LoseUnsynced();    // power cut: unsynced bytes, files and renames in unsynced folders are gone
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rft/core/file_system.h"

namespace rft::testing {

class FaultFileSystem : public FileSystem {
 public:
  explicit FaultFileSystem(FileSystem& base = FileSystem::Default()) : base_(base) {}

  // Counting from 1 and from now. Changing calls are creations, appends, flushes, syncs, closes,
  // renames, removals, truncations.
  void FailNth(int64_t n);
  void FailFrom(int64_t n);
  void StopFailing();
  // Changing calls since the last of the three above (or since the start).
  int64_t num_calls() const { return num_calls_; }

  // What a power cut leaves behind. Open WritableFiles must be gone.
  void LoseUnsynced();

  absl::StatusOr<std::string> ReadFile(const std::string& path) override {
    return base_.ReadFile(path);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> NewWritableFile(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> NewAppendableFile(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) override {
    return base_.Map(path);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveAll(const std::string& path) override;
  absl::Status CreateDirs(const std::string& path) override;
  absl::Status Truncate(const std::string& path, uint64_t size) override;
  absl::Status SyncFile(const std::string& path) override;
  absl::Status SyncDir(const std::string& path) override;
  bool Exists(const std::string& path) override { return base_.Exists(path); }
  bool IsDirectory(const std::string& path) override { return base_.IsDirectory(path); }
  absl::StatusOr<uint64_t> FileSize(const std::string& path) override {
    return base_.FileSize(path);
  }
  absl::StatusOr<std::vector<std::string>> ListDir(const std::string& path) override {
    return base_.ListDir(path);
  }

 private:
  class File;
  // A folder entry that is not durable yet: created, or renamed from somewhere.
  struct PendingEntry {
    std::string path;
    std::optional<std::string> renamed_from;
    std::optional<std::string> replaced_bytes;  // of the file that the rename replaced
  };

  absl::Status BeforeCall(const std::string& what);
  absl::StatusOr<std::unique_ptr<WritableFile>> Wrap(const std::string& path,
                                                     std::unique_ptr<WritableFile> file);
  void MarkSynced(const std::string& path);
  void NoteCreated(const std::string& path);
  void Forget(const std::string& path);

  FileSystem& base_;
  int64_t num_calls_ = 0;
  int64_t fail_at_ = 0;                           // 0: never
  bool fail_after_ = false;                       // and every later call
  std::map<std::string, uint64_t> synced_bytes_;  // of every file that was written through here
  std::vector<PendingEntry> pending_;             // oldest first
};

}  // namespace rft::testing
