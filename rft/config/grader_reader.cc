#include "rft/config/grader_reader.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "rft/config/value_reader.h"

namespace rft {
namespace {

// "graders[format]", or "graders[0]" while it has neither name nor type.
std::string Label(const ConfigNode& node, size_t index) {
  for (const char* key : {"name", "type"}) {
    const ConfigNode* value = node.Find(key);
    if (value != nullptr && value->kind == ConfigNode::Kind::kScalar)
      return absl::StrCat("graders[", value->text, "]");
  }
  return absl::StrCat("graders[", index, "]");
}

GraderSpec ReadGrader(const ConfigNode& node, const std::string& label,
                      const std::vector<std::string>& types, Mistakes* mistakes) {
  GraderSpec spec;
  for (const auto& [key, value] : node.members) {
    const std::string path = absl::StrCat(label, ".", key);
    if (key == "name") {
      ReadValue(value, path, {}, &spec.name, mistakes);
    } else if (key == "type") {
      ReadValue(value, path, {.choices = types}, &spec.type, mistakes);
    } else if (key == "weight") {
      ReadValue(value, path, {}, &spec.weight, mistakes);
    } else if (key == "deadline_s") {
      ReadValue(value, path, {.above = 0}, &spec.deadline_s, mistakes);
    } else {
      const bool is_text =
          value.kind == ConfigNode::Kind::kScalar || value.kind == ConfigNode::Kind::kNull;
      spec.params[key] = is_text ? value.text : NodeToJson(value);
      spec.param_locations[key] = value.where;
    }
  }
  if (node.Find("type") == nullptr)
    mistakes->Add(node.where, absl::StrCat(label, ".type"), "missing; which grader is this?");
  if (spec.name.empty()) spec.name = spec.type;
  return spec;
}

}  // namespace

void ReadGraders(const ConfigNode& node, const std::vector<std::string>& types,
                 std::vector<GraderSpec>* graders, Mistakes* mistakes) {
  if (node.kind != ConfigNode::Kind::kList) {
    mistakes->Add(node.where, "graders", "expected a list ('- type: regex_match' and so on)");
    return;
  }
  std::set<std::string> names;
  for (size_t i = 0; i < node.items.size(); ++i) {
    const ConfigNode& item = node.items[i];
    const std::string label = Label(item, i);
    if (item.kind != ConfigNode::Kind::kMap) {
      mistakes->Add(item.where, label, "expected 'key: value' lines with at least a type");
      continue;
    }
    GraderSpec spec = ReadGrader(item, label, types, mistakes);
    if (!spec.name.empty() && !names.insert(spec.name).second) {
      mistakes->Add(item.where, label, "a second grader of this name; give each its own 'name'");
    }
    graders->push_back(std::move(spec));
  }
}

}  // namespace rft
