// A folder that is there completely or not at all (checkpoints, saved models).
//
//   auto commit = FolderCommit::Begin("runs/x/checkpoints/step_20");   // makes step_20.tmp
//   trainer.SaveState((*commit)->dir());   // any files, also in sub-folders
//   (*commit)->Commit();   // fsync files, write manifest.json, fsync, rename to step_20, fsync parent
//
// Killed anywhere before the rename, "step_20" does not exist; after it, it verifies. Trust only
// what VerifyManifest accepts. Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/core/file_system.h"

namespace rft {

class FolderCommit {
 public:
  // Creates the empty folder "<final_dir>.tmp", removing a leftover of that name. kAlreadyExists if
  // final_dir exists and `replace` is false. With replace, Commit moves the old folder to
  // "<final_dir>.old", renames the new one, then removes the old: killed between the two renames,
  // the old one is still there under that name.
  static absl::StatusOr<std::unique_ptr<FolderCommit>> Begin(
      const std::string& final_dir, bool replace = false, FileSystem& fs = FileSystem::Default());
  ~FolderCommit();  // uncommitted: removes the temporary folder

  // Where to write the files.
  const std::string& dir() const { return tmp_dir_; }
  // What a folder that is still being written will be called, for messages; other names are returned as they are.
  static std::string FinalName(const std::string& dir);

  // On an error final_dir is as before, unless the message says that only the last fsync failed.
  absl::Status Commit();

 private:
  FolderCommit(std::string final_dir, bool replace, FileSystem& fs);
  const std::string final_dir_, tmp_dir_;
  const bool replace_;
  FileSystem& fs_;
  bool done_ = false;
};

// OK if dir/manifest.json exists, and every file it lists has its size and SHA-256. kDataLoss names
// the first file that does not, and what is wrong; kNotFound without a manifest. Files that the
// manifest doesn't list are ignored.
absl::Status VerifyManifest(const std::string& dir, FileSystem& fs = FileSystem::Default());

// Hexadecimal SHA-256 of bytes, and of a file's bytes.
std::string Sha256OfText(std::string_view bytes);
absl::StatusOr<std::string> Sha256OfFile(const std::string& path,
                                         FileSystem& fs = FileSystem::Default());

}  // namespace rft
