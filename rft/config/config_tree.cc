#include "rft/config/config_tree.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include <yaml-cpp/yaml.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "rft/core/json_writer.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"

namespace rft {
namespace {

constexpr int kMaxDepth = 64;
constexpr int kMaxNodes = 200'000;

class Converter {
 public:
  explicit Converter(std::string name, bool with_lines)
      : name_(std::move(name)), with_lines_(with_lines) {}

  ConfigNode Convert(const YAML::Node& yaml, int depth) {
    ConfigNode node;
    node.where = Where(yaml);
    if (depth > kMaxDepth || ++num_nodes_ > kMaxNodes) {
      if (!too_large_) errors_.push_back(absl::StrCat(node.where, ": too many levels or values"));
      too_large_ = true;
      return node;
    }
    if (yaml.IsScalar()) {
      node.kind = ConfigNode::Kind::kScalar;
      node.text = yaml.Scalar();
      node.quoted = yaml.Tag() == "!";
    } else if (yaml.IsSequence()) {
      node.kind = ConfigNode::Kind::kList;
      for (const YAML::Node& item : yaml) {
        node.items.push_back(Convert(item, depth + 1));
        if (too_large_) break;
      }
    } else if (yaml.IsMap()) {
      node.kind = ConfigNode::Kind::kMap;
      std::set<std::string> seen;
      for (const auto& member : yaml) {
        if (!member.first.IsScalar()) {
          errors_.push_back(absl::StrCat(Where(member.first), ": a key must be text"));
          continue;
        }
        const std::string key = member.first.Scalar();
        if (!seen.insert(key).second)
          errors_.push_back(absl::StrCat(Where(member.first), ": ", key, ": given twice"));
        ConfigNode value = Convert(member.second, depth + 1);
        value.where = Where(member.first);  // where people look for a mistake is the key
        node.members.emplace_back(key, std::move(value));
        if (too_large_) break;
      }
    }
    return node;
  }

  absl::Status status() const {
    return errors_.empty() ? absl::OkStatus()
                           : absl::InvalidArgumentError(absl::StrJoin(errors_, "\n"));
  }

 private:
  std::string Where(const YAML::Node& yaml) const {
    return with_lines_ && !yaml.Mark().is_null() ? absl::StrCat(name_, ":", yaml.Mark().line + 1)
                                                 : name_;
  }

  const std::string name_;
  const bool with_lines_;
  int num_nodes_ = 0;
  bool too_large_ = false;
  std::vector<std::string> errors_;
};

absl::StatusOr<ConfigNode> Parse(std::string_view text, const std::string& name, bool with_lines) {
  if (const auto bad = FindInvalidUtf8(text)) {
    const auto line =
        1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(*bad), '\n');
    return absl::InvalidArgumentError(
        absl::StrCat(name, ":", line, ": not UTF-8 text (byte ", *bad, ")"));
  }
  try {  // yaml-cpp reports by exception; this is the adapter
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.size() > 1) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": holds ", documents.size(),
                                                     " YAML documents (---); one is expected"));
    }
    Converter converter(name, with_lines);
    ConfigNode root = documents.empty() ? ConfigNode{} : converter.Convert(documents[0], 0);
    RFT_RETURN_IF_ERROR(converter.status());
    return root;
  } catch (const YAML::Exception& error) {
    std::string where = name;
    if (with_lines && !error.mark.is_null())
      absl::StrAppend(&where, ":", error.mark.line + 1, ":", error.mark.column + 1);
    return absl::InvalidArgumentError(absl::StrCat(where, ": not valid YAML: ", error.msg));
  }
}

// Plain text that is a number in JSON's sense.
bool IsJsonNumber(std::string_view text) {
  const size_t digits = text.starts_with('-') ? 1 : 0;
  if (digits >= text.size() || !(text[digits] >= '0' && text[digits] <= '9') ||
      !(text.back() >= '0' && text.back() <= '9')) {
    return false;
  }
  if (text[digits] == '0' && text.size() > digits + 1 && text[digits + 1] >= '0' &&
      text[digits + 1] <= '9')
    return false;
  if (text.find(".e") != text.npos || text.find(".E") != text.npos) return false;
  double value = 0.0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() &&
         std::isfinite(value);
}

void WriteJson(const ConfigNode& node, JsonWriter& w) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      w.Null();
      break;
    case ConfigNode::Kind::kScalar:
      if (!node.quoted &&
          (IsJsonNumber(node.text) || node.text == "true" || node.text == "false")) {
        w.Raw(node.text);
      } else {
        w.String(node.text);
      }
      break;
    case ConfigNode::Kind::kList:
      w.BeginArray();
      for (const ConfigNode& item : node.items) WriteJson(item, w);
      w.EndArray();
      break;
    case ConfigNode::Kind::kMap:
      w.BeginObject();
      for (const auto& [key, value] : node.members) {
        w.Key(key);
        WriteJson(value, w);
      }
      w.EndObject();
      break;
  }
}

// The child called `key`, created where that is possible; nullptr where it is not.
ConfigNode* Descend(ConfigNode* node, const std::string& key, const std::string& where) {
  if (node->kind == ConfigNode::Kind::kList) {
    size_t index = 0;
    const auto result = std::from_chars(key.data(), key.data() + key.size(), index);
    const bool is_index = result.ec == std::errc() && result.ptr == key.data() + key.size();
    return is_index && index < node->items.size() ? &node->items[index] : nullptr;
  }
  if (node->kind == ConfigNode::Kind::kScalar) return nullptr;
  if (node->kind == ConfigNode::Kind::kNull) {
    node->kind = ConfigNode::Kind::kMap;
    node->where = where;
  }
  if (ConfigNode* found = node->Find(key)) return found;
  ConfigNode child;
  child.where = where;
  return &node->members.emplace_back(key, std::move(child)).second;
}

}  // namespace

const ConfigNode* ConfigNode::Find(std::string_view key) const {
  for (const auto& [name, node] : members) {
    if (name == key) return &node;
  }
  return nullptr;
}

ConfigNode* ConfigNode::Find(std::string_view key) {
  return const_cast<ConfigNode*>(static_cast<const ConfigNode*>(this)->Find(key));
}

absl::StatusOr<ConfigNode> ParseYaml(std::string_view text, const std::string& name) {
  return Parse(text, name, true);
}

absl::Status ApplyOverride(const std::string& override_text, const std::string& from,
                           ConfigNode* root) {
  const size_t equals = override_text.find('=');
  const std::string path = override_text.substr(0, equals);
  if (equals == std::string::npos || path.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(from, " ", override_text, ": expected key=value, such as trainer.steps=10"));
  }
  RFT_ASSIGN_OR_RETURN(ConfigNode value, Parse(std::string_view(override_text).substr(equals + 1),
                                               absl::StrCat(from, " ", path), false));
  ConfigNode* node = root;
  std::vector<std::string> walked;
  for (const std::string& key : std::vector<std::string>(absl::StrSplit(path, '.'))) {
    ConfigNode* child = key.empty() ? nullptr : Descend(node, key, from);
    if (child == nullptr) {
      const std::string parent = walked.empty() ? "the configuration" : absl::StrJoin(walked, ".");
      return absl::InvalidArgumentError(absl::StrCat(
          from, " ", path, ": ", parent, " has no part '", key, "' (", node->where, ")"));
    }
    walked.push_back(key);
    node = child;
  }
  *node = std::move(value);
  node->where = from;
  return absl::OkStatus();
}

std::string NodeToJson(const ConfigNode& node) {
  JsonWriter writer;
  WriteJson(node, writer);
  return writer.Take();
}

}  // namespace rft
