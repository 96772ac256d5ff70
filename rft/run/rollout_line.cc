#include "rft/run/rollout_line.h"

#include "rft/core/json_writer.h"

namespace rft {
namespace {

void WriteGrade(const NamedGrade& named, JsonWriter& w) {
  w.BeginObject();
  w.Key("grader"), w.String(named.grader);
  w.Key("weight"), w.Double(named.weight);
  w.Key("kind"), w.String(GradeKind(named.grade));
  if (const Score* score = std::get_if<Score>(&named.grade)) {
    w.Key("score"), w.Double(score->value);
    if (!score->sub_scores.empty()) {
      w.Key("sub_scores");
      w.BeginObject();
      for (const auto& [name, value] : score->sub_scores) w.Key(name), w.Double(value);
      w.EndObject();
    }
    if (!score->turn_scores.empty()) {
      w.Key("turn_scores");
      w.BeginArray();
      for (const double value : score->turn_scores) w.Double(value);
      w.EndArray();
    }
  }
  w.Key("reason"), w.String(GradeReason(named.grade));
  w.EndObject();
}

// Of the first token the model wrote; -1 if it wrote none.
int64_t FirstVersion(const Rollout& rollout) {
  for (const Segment& segment : rollout.segments) {
    if (segment.kind == SegmentKind::kModel && !segment.versions.empty())
      return segment.versions.front();
  }
  return -1;
}

}  // namespace

std::string RolloutLine(const Group& group, const Rollout& rollout, const std::string& prompt,
                        GroupVerdict verdict, bool trained) {
  JsonWriter w;
  w.BeginObject();
  w.Key("step"), w.Int(rollout.step);
  w.Key("group"), w.Int(group.id);
  w.Key("row"), w.Int(group.row->index);
  w.Key("index"), w.Int(rollout.index);
  w.Key("prompt"), w.String(prompt);
  w.Key("completion"), w.String(rollout.completion_text);
  w.Key("finish_reason"), w.String(FinishReasonName(rollout.finish_reason));
  w.Key("num_tokens"), w.Int(rollout.NumCompletionTokens());
  w.Key("version"), w.Int(FirstVersion(rollout));
  w.Key("scored"), w.Bool(rollout.scored);
  w.Key("reward");
  rollout.scored ? w.Double(rollout.reward) : w.Null();
  w.Key("advantage"), w.Double(rollout.advantage);
  w.Key("trained"), w.Bool(trained);
  w.Key("dropped");
  verdict == GroupVerdict::kKeep ? w.Null() : w.String(GroupVerdictName(verdict));
  w.Key("grades");
  w.BeginArray();
  for (const NamedGrade& named : rollout.grades) WriteGrade(named, w);
  w.EndArray();
  w.EndObject();
  return w.Take();
}

}  // namespace rft
