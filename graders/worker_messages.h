// The JSON inside the frames (graders/worker_frame.h). The other side is bindings/python/rft/_worker.py.
//
//   to the worker     first {"function": {"file": PATH, "name": F} | {"module": M, "name": F} | {"pickle": BASE64} |
//                          {"source": TEXT, "name": F}, each with "args": {...} perhaps, "style": ..., "label": NAME, "sys_path": [...],
//                          "starts": the descriptor of graders/start_tokens.h}
//                     then  {"items": [{"id": 7, "row": "<the row's JSON, as a string>", "completion": "...",
//                                       "token_ids": [...], "finish_reason": "stop"}, ...]}; where the completion calls
//                   tools, also "text" (the completion without them) and "tool_calls" (graders/sample.h)
//   from the worker   first {"ready": true, "batch": whether one call takes all items of a message, "columns": [those of the row that
//                            the function can't be called without]} | {"failed": MESSAGE}
//                     then, per item in the order sent, {"id": 7, ...} with one of
//                       "score": x [, "reason": text, "sub_scores": {name: x}, "turn_scores": [x], "token_advantages": [x]]  |  "abstain": REASON  |  "error": MESSAGE
//
// The row travels as text inside a string, so that a row which is not valid JSON spoils its own item only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "graders/async_grader.h"

namespace rft {

// The row's line; its columns as an object where it was made in memory.
std::string RowText(const Row& row);

std::string EncodeItem(int64_t id, const GradeJob& job);               // one element of "items"
std::string EncodeItems(absl::Span<const std::string> encoded_items);  // the whole message

struct WorkerReady {
  bool batch = false;                // the function takes all items of a message at once
  std::vector<std::string> columns;  // of the row, that it can't be called without
};
struct WorkerFailed {
  std::string message;
};
struct ItemGraded {
  int64_t id = 0;
  Grade grade;
};
using WorkerMessage = std::variant<WorkerReady, WorkerFailed, ItemGraded>;

// kInvalidArgument if it is not one of the messages above. A score that is not finite becomes a GradeError.
absl::StatusOr<WorkerMessage> ParseWorkerMessage(std::string_view payload);

}  // namespace rft
