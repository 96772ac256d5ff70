#include "graders/worker_messages.h"

#include <boost/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "graders/grade_json.h"
#include "graders/sample.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

std::string TextAt(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : "";
}

}  // namespace

std::string RowText(const Row& row) {
  if (!row.json.empty()) return row.json;
  json::object columns;
  for (const auto& [name, value] : row.columns) columns[name] = value;
  return json::serialize(columns);
}

std::string EncodeItem(int64_t id, const GradeJob& job) {
  std::string out = absl::StrCat("{\"id\":", id, ",\"row\":", JsonQuote(RowText(*job.row)),
                                 ",\"completion\":", JsonQuote(job.completion), ",\"token_ids\":[");
  for (size_t i = 0; i < job.token_ids.size(); ++i)
    absl::StrAppend(&out, i == 0 ? "" : ",", job.token_ids[i]);
  absl::StrAppend(&out, "],\"finish_reason\":\"", FinishReasonName(job.finish_reason),
                  "\",\"step\":", job.step);
  if (HasToolCallMarkup(job.completion)) {
    const Sample sample = ParseSample(job.completion, job.finish_reason);
    absl::StrAppend(&out, ",\"text\":", JsonQuote(sample.text),
                    ",\"tool_calls\":", json::serialize(ToolCallsJson(sample)));
  }
  out += "}";
  return out;
}

std::string EncodeItems(absl::Span<const std::string> encoded_items) {
  std::string out = "{\"items\":[";
  for (size_t i = 0; i < encoded_items.size(); ++i)
    absl::StrAppend(&out, i == 0 ? "" : ",", encoded_items[i]);
  return out + "]}";
}

absl::StatusOr<WorkerMessage> ParseWorkerMessage(std::string_view payload) {
  const absl::StatusOr<json::value> parsed = ParseJson(payload);
  if (!parsed.ok() || !parsed->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "not a JSON object: ", std::string(payload.substr(0, 200)),
        parsed.ok() ? "" : absl::StrCat(" (", std::string(parsed.status().message()), ")")));
  }
  const json::object& object = parsed->get_object();
  if (object.contains("ready")) {
    const json::value* batch = object.if_contains("batch");
    const absl::StatusOr<const json::array*> columns = GetArray(object, "columns");
    WorkerReady ready{.batch = batch != nullptr && batch->is_bool() && batch->get_bool()};
    for (const json::value& column : columns.ok() ? **columns : json::array())
      if (column.is_string()) ready.columns.emplace_back(column.get_string());
    return ready;
  }
  if (object.contains("failed")) return WorkerFailed{TextAt(object, "failed")};
  const json::value* id = object.if_contains("id");
  if (id == nullptr || !id->is_int64()) return absl::InvalidArgumentError("a reply without an id");
  std::optional<Grade> grade = GradeFromJson(*parsed);
  if (!grade.has_value())
    return absl::InvalidArgumentError("a reply without score, abstain or error");
  return ItemGraded{id->get_int64(), *std::move(grade)};
}

}  // namespace rft
