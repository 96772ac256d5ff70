#include "rft/run/grader_watch.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/json_writer.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/io/manifest.h"

namespace rft {
namespace {

// The file a Python function ("rewards.py:f") or a grader JSON is in; empty: none.
std::string FileOf(const GraderSpec& spec) {
  std::filesystem::path path;
  if (const auto file = spec.params.find("file"); file != spec.params.end()) path = file->second;
  if (const auto function = spec.params.find("function"); function != spec.params.end())
    path = function->second.substr(0, function->second.rfind(':'));
  if (!path.empty() && path.is_relative()) path = std::filesystem::path(spec.base_dir) / path;
  return path.string();
}

void Count(const Group& group, GraderAlarm* alarm) {
  for (const Rollout& rollout : group.rollouts) {
    for (const NamedGrade& named : rollout.grades) {
      if (named.grader != alarm->grader) continue;
      ++alarm->num_grades;
      if (!IsFailure(named.grade)) continue;
      if (alarm->num_failures++ == 0)
        alarm->reason = absl::StrCat(GradeKind(named.grade), ": ", GradeReason(named.grade));
      alarm->rows.insert(group.row->index);
    }
  }
}

}  // namespace

GraderHashes HashGraders(const std::vector<GraderSpec>& graders, FileSystem& fs) {
  GraderHashes hashes;
  for (const GraderSpec& spec : graders) {
    JsonWriter w;
    w.BeginObject();
    w.Key("type"), w.String(spec.type);
    w.Key("weight"), w.Double(spec.weight);
    for (const auto& [key, text] : spec.params) {
      if (key != "sys_path" && key != "workers") w.Key(key), w.String(text);  // where, not what
    }
    const std::string file = FileOf(spec);
    if (!file.empty() && fs.Exists(file))
      w.Key("content"), w.String(Sha256OfFile(file, fs).value_or(""));
    w.EndObject();
    hashes[spec.name] = Sha256OfText(w.Take());
  }
  return hashes;
}

std::string GraderHashesToJson(const GraderHashes& hashes) {
  JsonWriter w(1);
  w.BeginObject();
  w.Key("graders");
  w.BeginObject();
  for (const auto& [name, hash] : hashes) w.Key(name), w.String(hash);
  w.EndObject();
  w.EndObject();
  return w.Take();
}

absl::StatusOr<GraderHashes> GraderHashesFromJson(std::string_view text) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(text));
  if (!value.is_object()) return absl::InvalidArgumentError("must be a JSON object");
  RFT_ASSIGN_OR_RETURN(const json::object* graders, GetObject(value.get_object(), "graders"));
  GraderHashes hashes;
  for (const json::key_value_pair& member : *graders) {
    const std::string name(member.key());
    RFT_ASSIGN_OR_RETURN(hashes[name], GetString(*graders, name));
  }
  return hashes;
}

std::vector<std::string> ChangedGraders(const GraderHashes& before, const GraderHashes& now) {
  std::vector<std::string> changed;
  for (const auto& [name, hash] : before) {
    const auto same = now.find(name);
    if (same == now.end() || same->second != hash) changed.push_back(name);
  }
  for (const auto& [name, hash] : now) {
    if (before.count(name) == 0) changed.push_back(name);
  }
  return changed;
}

std::string GraderAlarm::RowsText() const {
  constexpr size_t kShown = 10;
  const auto end =
      std::next(rows.begin(), static_cast<std::ptrdiff_t>(std::min(kShown, rows.size())));
  std::string text =
      absl::StrCat(rows.size() == 1 ? "row " : "rows ", absl::StrJoin(rows.begin(), end, ", "));
  if (rows.size() > kShown) absl::StrAppend(&text, " and ", rows.size() - kShown, " more");
  return text;
}

std::vector<GraderAlarm> FindAlarms(const StepBatch& batch,
                                    const std::vector<GraderPool::Policy>& graders) {
  std::vector<GraderAlarm> alarms;
  for (const auto& [name, weight, policy] : graders) {
    if (policy.max_failure_rate >= 1.0) continue;
    GraderAlarm alarm{.grader = name, .max_failure_rate = policy.max_failure_rate};
    for (const Group& group : batch.groups) Count(group, &alarm);
    for (const DroppedGroup& dropped : batch.dropped) Count(dropped.group, &alarm);
    const double allowed = policy.max_failure_rate * static_cast<double>(alarm.num_grades);
    if (static_cast<double>(alarm.num_failures) > allowed) alarms.push_back(std::move(alarm));
  }
  return alarms;
}

}  // namespace rft
