#include "rft/config/grader_reader.h"

#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/config/value_reader.h"

namespace rft {
namespace {

// Where "rewards.py:exact" and "package.module:exact" name the function.
size_t ColonOf(std::string_view function) {
  const size_t colon = function.rfind(':');
  return colon + 1 == function.size() ? std::string_view::npos : colon;
}

std::string TextAt(const ConfigNode& node, const char* key) {
  const ConfigNode* value = node.Find(key);
  return value != nullptr && value->kind == ConfigNode::Kind::kScalar ? value->text : "";
}

// "graders[format]", or "graders[0]" while it has neither name nor type.
std::string Label(const ConfigNode& node, size_t index) {
  GraderSpec spec{.name = TextAt(node, "name"), .type = TextAt(node, "type")};
  spec.params["function"] = TextAt(node, "function");
  if (spec.name.empty()) spec.name = DefaultGraderName(spec);
  return spec.name.empty() ? absl::StrCat("graders[", index, "]")
                           : absl::StrCat("graders[", spec.name, "]");
}

// "rewards.exact" for "a/rewards.py:exact" and "package.rewards:exact"; empty where no function is named.
std::string LongName(const GraderSpec& spec) {
  const auto function = spec.params.find("function");
  if (function == spec.params.end() || ColonOf(function->second) == std::string::npos) return "";
  std::string from = function->second.substr(0, ColonOf(function->second));
  if (from.ends_with(".py")) {
    from.resize(from.size() - 3);
    from.erase(0, from.rfind('/') + 1);
  } else {
    from.erase(0, from.rfind('.') + 1);
  }
  return absl::StrCat(from, ".", DefaultGraderName(spec));
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
  return spec;
}

// Fills in what has no name; tells functions of the same name apart by their files.
void NameGraders(std::vector<GraderSpec>& specs) {
  std::map<std::string, int> count;
  for (const GraderSpec& spec : specs)
    ++count[spec.name.empty() ? DefaultGraderName(spec) : spec.name];
  for (GraderSpec& spec : specs) {
    if (!spec.name.empty()) continue;
    spec.name = DefaultGraderName(spec);
    const std::string longer = LongName(spec);
    if (count[spec.name] > 1 && !longer.empty()) spec.name = longer;
  }
}

}  // namespace

std::string DefaultGraderName(const GraderSpec& spec) {
  const auto function = spec.params.find("function");
  const size_t colon =
      function == spec.params.end() ? std::string::npos : ColonOf(function->second);
  return colon == std::string::npos ? spec.type : function->second.substr(colon + 1);
}

void ReadGraders(const ConfigNode& node, const std::vector<std::string>& types,
                 std::vector<GraderSpec>* graders, Mistakes* mistakes) {
  if (node.kind != ConfigNode::Kind::kList) {
    mistakes->Add(node.where, "graders", "expected a list ('- type: regex_match' and so on)");
    return;
  }
  std::vector<GraderSpec> read;
  std::vector<std::pair<std::string, std::string>>
      written;  // of each that was read: where, and label
  for (size_t i = 0; i < node.items.size(); ++i) {
    const ConfigNode& item = node.items[i];
    const std::string label = Label(item, i);
    if (item.kind != ConfigNode::Kind::kMap) {
      mistakes->Add(item.where, label, "expected 'key: value' lines with at least a type");
      continue;
    }
    read.push_back(ReadGrader(item, label, types, mistakes));
    written.emplace_back(item.where, label);
  }
  NameGraders(read);
  std::set<std::string> names;
  for (size_t i = 0; i < read.size(); ++i) {
    if (!read[i].name.empty() && !names.insert(read[i].name).second)
      mistakes->Add(written[i].first, written[i].second,
                    "a second grader of this name; give each its own 'name'");
    graders->push_back(std::move(read[i]));
  }
}

}  // namespace rft
