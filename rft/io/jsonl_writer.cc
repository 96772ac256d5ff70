#include "rft/io/jsonl_writer.h"

#include "rft/core/check.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

// Cuts off what follows the last line break.
absl::Status DropTornLine(const std::string& path, FileSystem& fs) {
  if (!fs.Exists(path)) return absl::OkStatus();
  size_t keep = 0, size = 0;
  {
    RFT_ASSIGN_OR_RETURN(const std::unique_ptr<MappedFile> file, fs.Map(path));
    const std::string_view text(file->data(), file->size());
    const size_t last_newline = text.rfind('\n');
    keep = last_newline == text.npos ? 0 : last_newline + 1;
    size = text.size();
  }
  return keep == size ? absl::OkStatus() : fs.Truncate(path, keep);
}

}  // namespace

absl::StatusOr<std::unique_ptr<JsonlWriter>> JsonlWriter::Open(const std::string& path,
                                                               FileSystem& fs) {
  RFT_RETURN_IF_ERROR(DropTornLine(path, fs));
  RFT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.NewAppendableFile(path));
  return std::unique_ptr<JsonlWriter>(new JsonlWriter(std::move(file)));
}

absl::Status JsonlWriter::Append(std::string_view json_object) {
  RFT_CHECK(json_object.find('\n') == json_object.npos);
  std::string line(json_object);
  line += '\n';
  std::lock_guard<std::mutex> lock(mutex_);
  RFT_RETURN_IF_ERROR(file_->Append(line));
  return file_->Flush();
}

absl::Status JsonlWriter::Append(const boost::json::object& object) {
  return Append(ToJson(object));
}

absl::Status JsonlWriter::Sync() {
  std::lock_guard<std::mutex> lock(mutex_);
  return file_->Sync();
}

}  // namespace rft
