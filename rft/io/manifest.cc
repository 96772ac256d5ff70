#include "rft/io/manifest.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <openssl/evp.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "rft/core/check.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/io/safe_path.h"

namespace rft {
namespace {

constexpr char kManifestName[] = "manifest.json";
constexpr int kManifestVersion = 1;
constexpr char kTmp[] = ".tmp";

struct Entry {
  std::string path;  // relative, with '/'
  uint64_t size = 0;
  std::string sha256;
};

// All files below dir/prefix, relative to dir; folders on the way are fsynced, so that their
// entries are durable.
absl::Status SyncTree(const std::string& dir, const std::string& prefix, FileSystem& fs,
                      std::vector<Entry>* entries) {
  RFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDir(JoinPath(dir, prefix)));
  for (const std::string& name : names) {
    const std::string relative = prefix.empty() ? name : absl::StrCat(prefix, "/", name);
    const std::string path = JoinPath(dir, relative);
    if (fs.IsDirectory(path)) {
      RFT_RETURN_IF_ERROR(SyncTree(dir, relative, fs, entries));
      continue;
    }
    if (relative == kManifestName) continue;
    RFT_RETURN_IF_ERROR(fs.SyncFile(path));
    Entry entry;
    entry.path = relative;
    RFT_ASSIGN_OR_RETURN(entry.size, fs.FileSize(path));
    RFT_ASSIGN_OR_RETURN(entry.sha256, Sha256OfFile(path, fs));
    entries->push_back(std::move(entry));
  }
  return fs.SyncDir(JoinPath(dir, prefix));
}

std::string ManifestJson(const std::vector<Entry>& entries) {
  JsonWriter w(1);
  w.BeginObject();
  w.Key("version"), w.Int(kManifestVersion);
  w.Key("files");
  w.BeginArray();
  for (const Entry& entry : entries) {
    w.BeginObject();
    w.Key("path"), w.String(entry.path);
    w.Key("size"), w.Uint(entry.size);
    w.Key("sha256"), w.String(entry.sha256);
    w.EndObject();
  }
  w.EndArray();
  w.EndObject();
  return w.Take() + "\n";
}

absl::Status VerifyEntry(const json::value& value, const std::string& dir, FileSystem& fs) {
  if (!value.is_object()) return absl::DataLossError("an entry of 'files' is not an object");
  RFT_ASSIGN_OR_RETURN(const std::string relative, GetString(value.get_object(), "path"));
  RFT_ASSIGN_OR_RETURN(const int64_t size, GetInt(value.get_object(), "size"));
  RFT_ASSIGN_OR_RETURN(const std::string sha256, GetString(value.get_object(), "sha256"));
  if (!IsSafeRelativePath(relative))
    return absl::DataLossError(absl::StrCat(relative, ": leads out of the folder"));
  const std::string path = JoinPath(dir, relative);
  if (!fs.Exists(path)) return absl::DataLossError(absl::StrCat(relative, ": is missing"));
  RFT_ASSIGN_OR_RETURN(const uint64_t actual, fs.FileSize(path));
  if (actual != static_cast<uint64_t>(size)) {
    return absl::DataLossError(
        absl::StrCat(relative, ": has ", actual, " bytes instead of ", size));
  }
  RFT_ASSIGN_OR_RETURN(const std::string actual_sha256, Sha256OfFile(path, fs));
  if (actual_sha256 != sha256)
    return absl::DataLossError(absl::StrCat(relative, ": content has changed (SHA-256 differs)"));
  return absl::OkStatus();
}

absl::Status VerifyText(const std::string& text, const std::string& dir, FileSystem& fs) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(text, {.reject_duplicate_keys = true}));
  if (!value.is_object()) return absl::DataLossError("not a JSON object");
  RFT_ASSIGN_OR_RETURN(const int64_t version, GetInt(value.get_object(), "version"));
  if (version != kManifestVersion)
    return absl::DataLossError(absl::StrCat("version ", version, " is not known"));
  RFT_ASSIGN_OR_RETURN(const json::array* files, GetArray(value.get_object(), "files"));
  for (const json::value& entry : *files) RFT_RETURN_IF_ERROR(VerifyEntry(entry, dir, fs));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> Sha256OfFile(const std::string& path, FileSystem& fs) {
  RFT_ASSIGN_OR_RETURN(const std::unique_ptr<MappedFile> file, fs.Map(path));
  return Sha256OfText({reinterpret_cast<const char*>(file->data()), file->size()});
}

std::string Sha256OfText(std::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  RFT_CHECK(EVP_Digest(bytes.data(), bytes.size(), digest, &length, EVP_sha256(), nullptr) == 1);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < length; ++i)
    (hex += kDigits[digest[i] >> 4]) += kDigits[digest[i] & 15];
  return hex;
}

FolderCommit::FolderCommit(std::string final_dir, bool replace, FileSystem& fs)
    : final_dir_(std::move(final_dir)), tmp_dir_(final_dir_ + kTmp), replace_(replace), fs_(fs) {}

std::string FolderCommit::FinalName(const std::string& dir) {
  return std::string(absl::StripSuffix(dir, kTmp));
}

FolderCommit::~FolderCommit() {
  if (!done_) fs_.RemoveAll(tmp_dir_).IgnoreError();
}

absl::StatusOr<std::unique_ptr<FolderCommit>> FolderCommit::Begin(const std::string& final_dir,
                                                                  bool replace, FileSystem& fs) {
  std::string dir = final_dir;
  while (dir.size() > 1 && dir.ends_with('/')) dir.pop_back();
  if (!replace && fs.Exists(dir))
    return absl::AlreadyExistsError(absl::StrCat(dir, ": exists already"));
  std::unique_ptr<FolderCommit> commit(new FolderCommit(dir, replace, fs));
  RFT_RETURN_IF_ERROR(fs.RemoveAll(commit->tmp_dir_));
  RFT_RETURN_IF_ERROR(fs.CreateDirs(commit->tmp_dir_));
  return commit;
}

absl::Status FolderCommit::Commit() {
  std::vector<Entry> entries;
  RFT_RETURN_IF_ERROR(SyncTree(tmp_dir_, "", fs_, &entries));
  RFT_RETURN_IF_ERROR(WriteFile(fs_, JoinPath(tmp_dir_, kManifestName), ManifestJson(entries)));
  RFT_RETURN_IF_ERROR(fs_.SyncDir(tmp_dir_));
  const std::string old_dir = final_dir_ + ".old";
  const bool replaces = replace_ && fs_.Exists(final_dir_);
  if (replaces) {
    RFT_RETURN_IF_ERROR(fs_.RemoveAll(old_dir));
    RFT_RETURN_IF_ERROR(fs_.Rename(final_dir_, old_dir));
  }
  if (absl::Status renamed = fs_.Rename(tmp_dir_, final_dir_); !renamed.ok()) {
    if (replaces) fs_.Rename(old_dir, final_dir_).IgnoreError();
    return renamed;
  }
  done_ = true;
  const std::string parent = ParentPath(final_dir_);
  absl::Status synced = fs_.SyncDir(parent);
  if (synced.ok()) synced = fs_.SyncDir(ParentPath(parent));  // Begin may have made the parent
  if (!synced.ok()) {
    return absl::Status(synced.code(),
                        absl::StrCat(final_dir_, " is complete, but may not survive a power cut: ",
                                     std::string(synced.message())));
  }
  return replaces ? fs_.RemoveAll(old_dir) : absl::OkStatus();
}

absl::Status VerifyManifest(const std::string& dir, FileSystem& fs) {
  const std::string path = JoinPath(dir, kManifestName);
  if (!fs.Exists(path))
    return absl::NotFoundError(
        absl::StrCat(path, ": missing; the folder was not written completely"));
  RFT_ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(path));
  const absl::Status status = VerifyText(text, dir, fs);
  return status.ok() ? status
                     : absl::DataLossError(absl::StrCat(path, ": ", std::string(status.message())));
}

}  // namespace rft
