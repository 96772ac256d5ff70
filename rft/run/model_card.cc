#include "rft/run/model_card.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/config/config_dump.h"
#include "rft/io/manifest.h"

namespace rft {
namespace {

std::string HashOf(const std::string& path, FileSystem& fs) {
  if (path.empty()) return "none";
  const absl::StatusOr<std::string> hash = Sha256OfFile(path, fs);
  return hash.ok() ? *hash : "could not be read";
}

}  // namespace

std::string ModelCard(const RunConfig& config, const std::string& kind,
                      const std::string& scores_json, FileSystem& fs) {
  const std::string base = std::filesystem::path(config.model).filename().string();
  std::string card = absl::StrCat("---\nlibrary_name: transformers\ntags: [rft, ", kind,
                                  "]\n---\n# ", config.name, "\n\nTrained with `rft ", kind,
                                  "` from `", base, "`.\n\n| | SHA-256 |\n| --- | --- |\n");
  for (const auto& [key, path] :
       {std::pair("data.train", config.data.train), std::pair("data.heldout", config.data.heldout)})
    absl::StrAppend(&card, "| ", key, " | ", HashOf(path, fs), " |\n");
  const std::string resolved = ResolvedJson(config);
  absl::StrAppend(&card, "\n## Scores\n\n```json\n", scores_json,
                  "\n```\n\n## Configuration\n\n```json\n", resolved,
                  resolved.ends_with('\n') ? "" : "\n", "```\n");
  return card;
}

}  // namespace rft
