#include "rft/config/config_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/config/config_tree.h"
#include "rft/config/grader_reader.h"
#include "rft/config/mistakes.h"
#include "rft/config/value_reader.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

// "losses.clip_high" for every field, "losses" for every section.
class PathCollector : public ConfigVisitor {
 public:
  void Field(const char* name, FieldRef, const FieldInfo&) override {
    paths_.push_back(prefix_ + name);
  }
  void BeginSection(const char* name, const char*) override {
    paths_.push_back(prefix_ + name);
    prefix_ += absl::StrCat(name, ".");
  }
  void EndSection() override {
    prefix_.pop_back();
    prefix_.erase(prefix_.rfind('.') == std::string::npos ? 0 : prefix_.rfind('.') + 1);
  }
  std::vector<std::string> TakePaths() { return std::move(paths_); }

 private:
  std::string prefix_;
  std::vector<std::string> paths_;
};

class Reader : public ConfigVisitor {
 public:
  Reader(const ConfigNode& root, std::string file, const ConfigReadOptions& options,
         RunConfig* config)
      : file_(std::move(file)), options_(options), config_(config) {
    PathCollector collector;
    config->Visit(collector);
    all_paths_ = collector.TakePaths();
    frames_.push_back({&root, "", {}});
    if (root.kind != ConfigNode::Kind::kMap && root.kind != ConfigNode::Kind::kNull) {
      mistakes_.Add(root.where, "the configuration", "expected 'key: value' lines");
      frames_.back().node = nullptr;
    }
  }

  void Field(const char* name, FieldRef field, const FieldInfo& info) override {
    const std::string path = frames_.back().prefix + name;
    frames_.back().known.insert(name);
    const ConfigNode* node =
        frames_.back().node == nullptr ? nullptr : frames_.back().node->Find(name);
    if (node == nullptr ||
        node->kind == ConfigNode::Kind::kNull) {  // null is how the dump writes "unset"
      if (info.required) mistakes_.Add(file_, path, absl::StrCat("missing; ", info.doc));
      return;
    }
    config_->locations[path] = node->where;
    if (auto* graders = std::get_if<std::vector<GraderSpec>*>(&field)) {
      ReadGraders(*node, Choices("graders.type"), *graders, &mistakes_);
      return;
    }
    FieldInfo full = info;
    const std::vector<std::string> more = Choices(path);
    if (!more.empty()) full.choices = more;
    ReadValue(*node, path, full, field, &mistakes_);
  }

  void BeginSection(const char* name, const char*) override {
    frames_.back().known.insert(name);
    const ConfigNode* node =
        frames_.back().node == nullptr ? nullptr : frames_.back().node->Find(name);
    const std::string path = frames_.back().prefix + name;
    if (node != nullptr && node->kind != ConfigNode::Kind::kMap) {
      if (node->kind != ConfigNode::Kind::kNull)
        mistakes_.Add(node->where, path, "expected a section of 'key: value' lines");
      node = nullptr;
    }
    frames_.push_back({node, path + ".", {}});
  }

  void EndSection() override {
    const Frame frame = std::move(frames_.back());
    frames_.pop_back();
    ReportUnknown(frame);
  }

  // After Visit: the top level's unknown keys, then what only whole sections can tell.
  void Finish() {
    ReportUnknown(frames_.back());
    const RunConfig& c = *config_;
    if (c.rollout.min_tokens > c.rollout.max_tokens) {
      mistakes_.Add(At("rollout.min_tokens"), "rollout.min_tokens",
                    absl::StrCat(c.rollout.min_tokens, " is more than rollout.max_tokens (",
                                 c.rollout.max_tokens, ")"));
    }
    const CorrectionOptions& k = c.losses.correction;
    if (k.floor && k.cap && *k.floor > *k.cap) {
      mistakes_.Add(At("losses.correction.floor"), "losses.correction.floor",
                    "is more than losses.correction.cap");
    }
  }

  Mistakes& mistakes() { return mistakes_; }

  std::string At(const std::string& path) const {
    auto it = config_->locations.find(path);
    return it == config_->locations.end() ? file_ : it->second;
  }

 private:
  struct Frame {
    const ConfigNode* node;  // nullptr: the section is absent or unusable
    std::string prefix;
    std::set<std::string> known;
  };

  std::vector<std::string> Choices(const std::string& path) const {
    auto it = options_.choices.find(path);
    return it == options_.choices.end() ? std::vector<std::string>{} : it->second;
  }

  void ReportUnknown(const Frame& frame) {
    if (frame.node == nullptr) return;
    for (const auto& [key, value] : frame.node->members) {
      if (frame.known.contains(key)) continue;
      mistakes_.AddUnknownKey(value.where, frame.prefix, key,
                              {frame.known.begin(), frame.known.end()}, all_paths_);
    }
  }

  const std::string file_;
  const ConfigReadOptions& options_;
  RunConfig* const config_;
  std::vector<std::string> all_paths_;
  std::vector<Frame> frames_;
  Mistakes mistakes_;
};

std::string Absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) return path;
  std::string text = absolute.lexically_normal().string();
  if (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

// base_dir first, then the working directory.
void ResolvePath(const std::string& base_dir, const std::string& key, FileSystem& fs,
                 Reader& reader, std::string* path) {
  if (path->empty()) return;
  const std::string beside = Absolute(JoinPath(base_dir, *path));
  const std::string here = Absolute(*path);
  if (fs.Exists(beside)) {
    *path = beside;
  } else if (fs.Exists(here)) {
    *path = here;
  } else {
    std::string what = absl::StrCat("no such file or folder: ", beside);
    if (here != beside) absl::StrAppend(&what, " (nor ", here, ")");
    reader.mistakes().Add(reader.At(key), key, what);
  }
}

}  // namespace

absl::StatusOr<RunConfig> ParseRunConfig(std::string_view text, const std::string& name,
                                         const std::string& base_dir,
                                         const ConfigReadOptions& options, FileSystem& fs) {
  RFT_ASSIGN_OR_RETURN(ConfigNode root, ParseYaml(text, name));
  for (const std::string& override_text : options.overrides)
    RFT_RETURN_IF_ERROR(ApplyOverride(override_text, options.overrides_from, &root));
  RunConfig config;
  Reader reader(root, name, options, &config);
  config.Visit(reader);
  reader.Finish();
  config.base_dir = Absolute(JoinPath(base_dir, config.base_dir));
  for (GraderSpec& grader : config.graders) grader.base_dir = config.base_dir;
  if (options.check_paths) {
    ResolvePath(config.base_dir, "model", fs, reader, &config.model);
    ResolvePath(config.base_dir, "data.train", fs, reader, &config.data.train);
    ResolvePath(config.base_dir, "data.heldout", fs, reader, &config.data.heldout);
  }
  RFT_RETURN_IF_ERROR(reader.mistakes().status());
  return config;
}

absl::StatusOr<RunConfig> ReadRunConfig(const std::string& path, const ConfigReadOptions& options,
                                        FileSystem& fs) {
  RFT_ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(path));
  return ParseRunConfig(text, path, ParentPath(path), options, fs);
}

std::string AtKey(const RunConfig& config, const std::string& key, std::string_view what) {
  auto it = config.locations.find(key);
  const std::string where = it == config.locations.end() ? "" : absl::StrCat(it->second, ": ");
  return absl::StrCat(where, key, ": ", std::string(what));
}

}  // namespace rft
