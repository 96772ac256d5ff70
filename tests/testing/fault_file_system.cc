#include "tests/testing/fault_file_system.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/check.h"
#include "rft/core/status_macros.h"

namespace rft::testing {
namespace {

bool IsAtOrBelow(const std::string& path, const std::string& dir) {
  return path == dir || path.starts_with(dir + "/");
}

}  // namespace

class FaultFileSystem::File : public WritableFile {
 public:
  File(FaultFileSystem& fs, std::string path, std::unique_ptr<WritableFile> base)
      : fs_(fs), path_(std::move(path)), base_(std::move(base)) {}

  absl::Status Append(std::string_view bytes) override {
    RFT_RETURN_IF_ERROR(fs_.BeforeCall("append to " + path_));
    return base_->Append(bytes);
  }
  absl::Status Flush() override {
    RFT_RETURN_IF_ERROR(fs_.BeforeCall("flush " + path_));
    return base_->Flush();
  }
  absl::Status Sync() override {
    RFT_RETURN_IF_ERROR(fs_.BeforeCall("fsync " + path_));
    RFT_RETURN_IF_ERROR(base_->Flush());  // the real fsync would only make tests slow
    fs_.MarkSynced(path_);
    return absl::OkStatus();
  }
  absl::Status Close() override {
    RFT_RETURN_IF_ERROR(fs_.BeforeCall("close " + path_));
    return base_->Close();
  }

 private:
  FaultFileSystem& fs_;
  const std::string path_;
  const std::unique_ptr<WritableFile> base_;
};

void FaultFileSystem::FailNth(int64_t n) {
  num_calls_ = 0;
  fail_at_ = n;
  fail_after_ = false;
}

void FaultFileSystem::FailFrom(int64_t n) {
  FailNth(n);
  fail_after_ = true;
}

void FaultFileSystem::StopFailing() { FailNth(0); }

absl::Status FaultFileSystem::BeforeCall(const std::string& what) {
  ++num_calls_;
  const bool fails =
      fail_at_ != 0 && (fail_after_ ? num_calls_ >= fail_at_ : num_calls_ == fail_at_);
  return fails ? absl::UnavailableError(
                     absl::StrCat("injected failure of call ", num_calls_, ": ", what))
               : absl::OkStatus();
}

void FaultFileSystem::MarkSynced(const std::string& path) {
  const auto size = base_.FileSize(path);
  if (size.ok()) synced_bytes_[path] = *size;
}

void FaultFileSystem::NoteCreated(const std::string& path) { pending_.push_back({path, {}, {}}); }

void FaultFileSystem::Forget(const std::string& path) {
  std::erase_if(synced_bytes_, [&](const auto& entry) { return IsAtOrBelow(entry.first, path); });
  std::erase_if(pending_, [&](const PendingEntry& entry) { return IsAtOrBelow(entry.path, path); });
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFileSystem::Wrap(
    const std::string& path, std::unique_ptr<WritableFile> file) {
  return std::make_unique<File>(*this, path, std::move(file));
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFileSystem::NewWritableFile(
    const std::string& path) {
  RFT_RETURN_IF_ERROR(BeforeCall("create " + path));
  if (!base_.Exists(path)) NoteCreated(path);
  RFT_ASSIGN_OR_RETURN(auto file, base_.NewWritableFile(path));
  synced_bytes_[path] = 0;
  return Wrap(path, std::move(file));
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFileSystem::NewAppendableFile(
    const std::string& path) {
  RFT_RETURN_IF_ERROR(BeforeCall("append to " + path));
  const bool existed = base_.Exists(path);
  if (!existed) NoteCreated(path);
  RFT_ASSIGN_OR_RETURN(auto file, base_.NewAppendableFile(path));
  if (!synced_bytes_.contains(path)) MarkSynced(path);  // written by others: taken as durable
  return Wrap(path, std::move(file));
}

absl::Status FaultFileSystem::Rename(const std::string& from, const std::string& to) {
  RFT_RETURN_IF_ERROR(BeforeCall(absl::StrCat("rename ", from, " to ", to)));
  std::optional<std::string> replaced;
  if (base_.Exists(to) && !base_.IsDirectory(to)) {
    RFT_ASSIGN_OR_RETURN(replaced, base_.ReadFile(to));
  }
  RFT_RETURN_IF_ERROR(base_.Rename(from, to));
  std::map<std::string, uint64_t> moved;
  for (const auto& [path, size] : synced_bytes_) {
    if (IsAtOrBelow(path, to)) continue;  // replaced
    moved[IsAtOrBelow(path, from) ? to + path.substr(from.size()) : path] = size;
  }
  synced_bytes_ = std::move(moved);
  pending_.push_back({to, from, std::move(replaced)});
  return absl::OkStatus();
}

absl::Status FaultFileSystem::Remove(const std::string& path) {
  RFT_RETURN_IF_ERROR(BeforeCall("remove " + path));
  Forget(path);
  return base_.Remove(path);
}

absl::Status FaultFileSystem::RemoveAll(const std::string& path) {
  RFT_RETURN_IF_ERROR(BeforeCall("remove " + path));
  Forget(path);
  return base_.RemoveAll(path);
}

absl::Status FaultFileSystem::CreateDirs(const std::string& path) {
  RFT_RETURN_IF_ERROR(BeforeCall("create folder " + path));
  if (!base_.Exists(path)) NoteCreated(path);
  return base_.CreateDirs(path);
}

absl::Status FaultFileSystem::Truncate(const std::string& path, uint64_t size) {
  RFT_RETURN_IF_ERROR(BeforeCall("truncate " + path));
  RFT_RETURN_IF_ERROR(base_.Truncate(path, size));
  if (auto it = synced_bytes_.find(path); it != synced_bytes_.end())
    it->second = std::min(it->second, size);
  return absl::OkStatus();
}

absl::Status FaultFileSystem::SyncFile(const std::string& path) {
  RFT_RETURN_IF_ERROR(BeforeCall("fsync " + path));
  MarkSynced(path);
  return absl::OkStatus();
}

absl::Status FaultFileSystem::SyncDir(const std::string& path) {
  RFT_RETURN_IF_ERROR(BeforeCall("fsync " + path));
  if (!base_.IsDirectory(path))
    return absl::NotFoundError(absl::StrCat("cannot fsync ", path, ": not a folder"));
  const std::string dir = path.ends_with('/') ? path.substr(0, path.size() - 1) : path;
  std::erase_if(pending_, [&](const PendingEntry& entry) { return ParentPath(entry.path) == dir; });
  return absl::OkStatus();
}

void FaultFileSystem::LoseUnsynced() {
  StopFailing();
  for (const auto& [path, size] : synced_bytes_) {
    const auto actual = base_.FileSize(path);
    if (actual.ok() && *actual > size) RFT_CHECK(base_.Truncate(path, size).ok());
  }
  while (!pending_.empty()) {  // newest first
    const PendingEntry entry = std::move(pending_.back());
    pending_.pop_back();
    if (!base_.Exists(entry.path)) continue;
    if (entry.renamed_from) {
      RFT_CHECK(base_.Rename(entry.path, *entry.renamed_from).ok());
      if (entry.replaced_bytes) RFT_CHECK(WriteFile(base_, entry.path, *entry.replaced_bytes).ok());
    } else {
      RFT_CHECK(base_.RemoveAll(entry.path).ok());
    }
  }
  synced_bytes_.clear();
}

}  // namespace rft::testing
