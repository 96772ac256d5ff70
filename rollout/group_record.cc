#include "rollout/group_record.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/json_writer.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/io/rollout_record.h"

namespace rft {

std::string GroupToRecord(const Group& group) {
  JsonWriter w;
  w.BeginObject();
  w.Key("id"), w.Int(group.id);
  w.Key("row"), w.Int(group.row->index);
  w.Key("rollouts");
  w.BeginArray();
  for (const Rollout& rollout : group.rollouts) WriteRollout(rollout, w);
  w.EndArray();
  w.EndObject();
  return w.Take();
}

absl::StatusOr<Group> GroupFromRecord(std::string_view record) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(record));
  if (!value.is_object()) return absl::InvalidArgumentError("a group record must be a JSON object");
  Group group;
  RFT_ASSIGN_OR_RETURN(group.id, GetInt(value.get_object(), "id"));
  Row row;
  RFT_ASSIGN_OR_RETURN(row.index, GetInt(value.get_object(), "row"));
  group.row = std::make_shared<const Row>(std::move(row));
  RFT_ASSIGN_OR_RETURN(const json::array* rollouts, GetArray(value.get_object(), "rollouts"));
  if (rollouts->empty()) return absl::InvalidArgumentError("'rollouts' is empty");
  for (const json::value& rollout_value : *rollouts) {
    RFT_ASSIGN_OR_RETURN(Rollout rollout, RolloutFromJson(ToJson(rollout_value)));
    group.rollouts.push_back(std::move(rollout));
  }
  const std::vector<Segment>& segments = group.rollouts.front().segments;
  if (segments.empty() || segments.front().kind != SegmentKind::kPrompt)
    return absl::InvalidArgumentError("rollouts[0]: no prompt segment");
  group.prompt = segments.front().ids;
  return group;
}

}  // namespace rft
