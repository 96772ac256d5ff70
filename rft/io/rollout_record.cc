#include "rft/io/rollout_record.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

constexpr std::array<std::string_view, 4> kSegmentKinds = {"prompt", "model", "tool", "env"};
constexpr std::array<std::string_view, 4> kFinishReasons = {"stop", "length", "cancelled", "error"};

// JSON has no NaN; null would not come back.
void Number(double value, JsonWriter& w) {
  std::isfinite(value) ? w.Double(value) : w.String(ShortestDouble(value));
}
void Number(float value, JsonWriter& w) {
  std::isfinite(value) ? w.Float(value) : w.String(ShortestFloat(value));
}
void Number(int64_t value, JsonWriter& w) { w.Int(value); }
void Number(uint8_t value, JsonWriter& w) { w.Int(value); }

template <typename T>
void WriteVector(const char* key, const std::vector<T>& values, JsonWriter& w) {
  if (values.empty()) return;
  w.Key(key);
  w.BeginArray();
  for (const T value : values) Number(value, w);
  w.EndArray();
}

std::string ToHex(const std::vector<uint8_t>& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) (text += kDigits[byte >> 4]) += kDigits[byte & 15];
  return text;
}

absl::StatusOr<std::vector<uint8_t>> FromHex(std::string_view text) {
  std::vector<uint8_t> bytes(text.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char* digits = text.data() + 2 * i;
    if (std::from_chars(digits, digits + 2, bytes[i], 16).ptr != digits + 2)
      return absl::InvalidArgumentError("'routes' is not hexadecimal");
  }
  if (text.size() % 2 != 0) return absl::InvalidArgumentError("'routes' is not hexadecimal");
  return bytes;
}

void WriteGrade(const NamedGrade& named, JsonWriter& w) {
  w.BeginObject();
  w.Key("grader"), w.String(named.grader);
  w.Key("weight"), Number(named.weight, w);
  w.Key("kind"), w.String(GradeKind(named.grade));
  if (const Score* score = std::get_if<Score>(&named.grade)) {
    w.Key("value"), Number(score->value, w);
    if (!score->sub_scores.empty()) {
      w.Key("sub_scores");
      w.BeginObject();
      for (const auto& [name, value] : score->sub_scores) w.Key(name), Number(value, w);
      w.EndObject();
    }
    if (!score->reason.empty()) w.Key("reason"), w.String(score->reason);
    WriteVector("turn_scores", score->turn_scores, w);
    WriteVector("token_advantages", score->token_advantages, w);
  } else if (const Timeout* timeout = std::get_if<Timeout>(&named.grade)) {
    w.Key("deadline_s"), Number(timeout->deadline_s, w);
  } else {
    w.Key("reason"), w.String(GradeReason(named.grade));
  }
  w.EndObject();
}

void WriteSegment(const Segment& segment, JsonWriter& w) {
  w.BeginObject();
  w.Key("kind"), w.String(kSegmentKinds[static_cast<size_t>(segment.kind)]);
  w.Key("ids");
  w.BeginArray();
  for (const TokenId id : segment.ids) w.Int(id);
  w.EndArray();
  WriteVector("loss_mask", segment.loss_mask, w);
  WriteVector("sampling_logprobs", segment.sampling_logprobs, w);
  WriteVector("logprobs", segment.logprobs, w);
  WriteVector("versions", segment.versions, w);
  if (!segment.routes.empty()) w.Key("routes"), w.String(ToHex(segment.routes));
  w.EndObject();
}

// A number of type T, or a message.
template <typename T>
absl::StatusOr<T> As(const json::value& value) {
  if constexpr (std::is_floating_point_v<T>) {
    RFT_ASSIGN_OR_RETURN(const double number, ToDouble(value));
    return static_cast<T>(number);
  } else {
    if (!value.is_int64()) return absl::InvalidArgumentError("not a whole number");
    const int64_t number = value.get_int64();
    if (number < int64_t{std::numeric_limits<T>::min()} ||
        number > int64_t{std::numeric_limits<T>::max()}) {
      return absl::InvalidArgumentError("out of range");
    }
    return static_cast<T>(number);
  }
}

// Absent = empty. `length` is what a non-empty vector must have; -1: any.
template <typename T>
absl::StatusOr<std::vector<T>> ReadVector(const json::object& object, std::string_view key,
                                          int64_t length) {
  std::vector<T> values;
  if (!object.contains(json::string_view(key.data(), key.size()))) return values;
  RFT_ASSIGN_OR_RETURN(const json::array* array, GetArray(object, key));
  if (length >= 0 && static_cast<int64_t>(array->size()) != length) {
    return absl::InvalidArgumentError(absl::StrCat("'", std::string(key), "' has ", array->size(),
                                                   " entries for ", length, " ids"));
  }
  values.reserve(array->size());
  for (const json::value& item : *array) {
    const absl::StatusOr<T> value = As<T>(item);
    if (!value.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("'", std::string(key), "'[", values.size(),
                                                     "] is ",
                                                     std::string(value.status().message())));
    }
    values.push_back(*value);
  }
  return values;
}

template <typename Enum, size_t N>
absl::StatusOr<Enum> ReadWord(const json::object& object, std::string_view key,
                              const std::array<std::string_view, N>& words) {
  RFT_ASSIGN_OR_RETURN(const std::string word, GetString(object, key));
  for (size_t i = 0; i < N; ++i) {
    if (words[i] == word) return static_cast<Enum>(i);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", std::string(key), "' is ", JsonQuote(word), ", which is not known"));
}

absl::StatusOr<Segment> ReadSegment(const json::value& value) {
  if (!value.is_object()) return absl::InvalidArgumentError("must be an object");
  const json::object& object = value.get_object();
  Segment segment;
  RFT_ASSIGN_OR_RETURN(segment.kind, ReadWord<SegmentKind>(object, "kind", kSegmentKinds));
  RFT_RETURN_IF_ERROR(GetArray(object, "ids").status());  // unlike the others, never left out
  RFT_ASSIGN_OR_RETURN(segment.ids, ReadVector<TokenId>(object, "ids", -1));
  const int64_t length = static_cast<int64_t>(segment.ids.size());
  RFT_ASSIGN_OR_RETURN(segment.loss_mask, ReadVector<uint8_t>(object, "loss_mask", length));
  RFT_ASSIGN_OR_RETURN(segment.sampling_logprobs,
                       ReadVector<float>(object, "sampling_logprobs", length));
  RFT_ASSIGN_OR_RETURN(segment.logprobs, ReadVector<float>(object, "logprobs", length));
  RFT_ASSIGN_OR_RETURN(segment.versions, ReadVector<int64_t>(object, "versions", length));
  if (object.contains("routes")) {
    RFT_ASSIGN_OR_RETURN(const std::string hex, GetString(object, "routes"));
    RFT_ASSIGN_OR_RETURN(segment.routes, FromHex(hex));
  }
  return segment;
}

absl::StatusOr<Score> ReadScore(const json::object& object) {
  Score score;
  RFT_ASSIGN_OR_RETURN(score.value, GetDouble(object, "value"));
  if (object.contains("reason")) {
    RFT_ASSIGN_OR_RETURN(score.reason, GetString(object, "reason"));
  }
  RFT_ASSIGN_OR_RETURN(score.turn_scores, ReadVector<double>(object, "turn_scores", -1));
  RFT_ASSIGN_OR_RETURN(score.token_advantages, ReadVector<double>(object, "token_advantages", -1));
  if (!object.contains("sub_scores")) return score;
  RFT_ASSIGN_OR_RETURN(const json::object* parts, GetObject(object, "sub_scores"));
  for (const json::key_value_pair& part : *parts) {
    const std::string name(part.key().data(), part.key().size());
    RFT_ASSIGN_OR_RETURN(score.sub_scores[name], GetDouble(*parts, name));
  }
  return score;
}

absl::StatusOr<NamedGrade> ReadGrade(const json::value& value) {
  if (!value.is_object()) return absl::InvalidArgumentError("must be an object");
  const json::object& object = value.get_object();
  NamedGrade named;
  RFT_ASSIGN_OR_RETURN(named.grader, GetString(object, "grader"));
  RFT_ASSIGN_OR_RETURN(named.weight, GetDouble(object, "weight"));
  RFT_ASSIGN_OR_RETURN(const std::string kind, GetString(object, "kind"));
  if (kind == "score") {
    RFT_ASSIGN_OR_RETURN(named.grade, ReadScore(object));
    return named;
  }
  if (kind == "timeout") {
    RFT_ASSIGN_OR_RETURN(const double deadline_s, GetDouble(object, "deadline_s"));
    named.grade = Timeout{deadline_s};
    return named;
  }
  RFT_ASSIGN_OR_RETURN(std::string reason, GetString(object, "reason"));
  if (kind == "abstain") {
    named.grade = Abstain{std::move(reason)};
  } else if (kind == "error") {
    named.grade = GradeError{std::move(reason)};
  } else if (kind == "killed") {
    named.grade = Killed{std::move(reason)};
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("'kind' is ", JsonQuote(kind), ", which is not known"));
  }
  return named;
}

// Reads each item of the list `key` with `read`, and says which item is wrong.
template <typename T>
absl::StatusOr<std::vector<T>> ReadList(const json::object& object, std::string_view key,
                                        absl::StatusOr<T> (*read)(const json::value&)) {
  RFT_ASSIGN_OR_RETURN(const json::array* array, GetArray(object, key));
  std::vector<T> items;
  for (const json::value& value : *array) {
    absl::StatusOr<T> item = read(value);
    if (!item.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(std::string(key), "[", items.size(),
                                                     "]: ", std::string(item.status().message())));
    }
    items.push_back(*std::move(item));
  }
  return items;
}

}  // namespace

void WriteRollout(const Rollout& r, JsonWriter& w) {
  w.BeginObject();
  w.Key("version"), w.Int(Rollout::kFormatVersion);
  w.Key("step"), w.Int(r.step);
  w.Key("group"), w.Int(r.group);
  w.Key("index"), w.Int(r.index);
  w.Key("completion"), w.String(r.completion_text);
  w.Key("finish_reason"), w.String(FinishReasonName(r.finish_reason));
  w.Key("scored"), w.Bool(r.scored);
  w.Key("reward"), Number(r.reward, w);
  w.Key("advantage"), Number(r.advantage, w);
  WriteVector("token_advantages", r.token_advantages, w);
  w.Key("grades");
  w.BeginArray();
  for (const NamedGrade& grade : r.grades) WriteGrade(grade, w);
  w.EndArray();
  w.Key("segments");
  w.BeginArray();
  for (const Segment& segment : r.segments) WriteSegment(segment, w);
  w.EndArray();
  w.EndObject();
}

std::string RolloutToJson(const Rollout& rollout) {
  JsonWriter w;
  WriteRollout(rollout, w);
  return w.Take();
}

absl::StatusOr<Rollout> RolloutFromJson(std::string_view text) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(text));
  if (!value.is_object()) return absl::InvalidArgumentError("a rollout must be a JSON object");
  const json::object& object = value.get_object();
  RFT_ASSIGN_OR_RETURN(const int64_t version, GetInt(object, "version"));
  if (version != Rollout::kFormatVersion) {
    return absl::InvalidArgumentError(absl::StrCat("rollout format ", version,
                                                   " is not readable here (this program reads ",
                                                   Rollout::kFormatVersion, ")"));
  }
  Rollout r;
  RFT_ASSIGN_OR_RETURN(r.step, GetInt(object, "step"));
  RFT_ASSIGN_OR_RETURN(r.group, GetInt(object, "group"));
  RFT_ASSIGN_OR_RETURN(const int64_t index, GetInt(object, "index"));
  r.index = static_cast<int32_t>(index);
  RFT_ASSIGN_OR_RETURN(r.completion_text, GetString(object, "completion"));
  RFT_ASSIGN_OR_RETURN(r.finish_reason,
                       ReadWord<FinishReason>(object, "finish_reason", kFinishReasons));
  RFT_ASSIGN_OR_RETURN(r.scored, GetBool(object, "scored"));
  RFT_ASSIGN_OR_RETURN(r.reward, GetDouble(object, "reward"));
  RFT_ASSIGN_OR_RETURN(r.advantage, GetDouble(object, "advantage"));
  RFT_ASSIGN_OR_RETURN(r.token_advantages, ReadVector<float>(object, "token_advantages", -1));
  RFT_ASSIGN_OR_RETURN(r.grades, ReadList<NamedGrade>(object, "grades", ReadGrade));
  RFT_ASSIGN_OR_RETURN(r.segments, ReadList<Segment>(object, "segments", ReadSegment));
  return r;
}

}  // namespace rft
