// Datasets: JSONL in OpenAI chat format, one row per line:
//
//   {"messages": [{"role": "user", "content": "What is 2 + 3?"}], "answer": "5"}
//
// Every other key is a column for graders. Blank lines and a byte order mark are allowed; nothing
// is dropped silently.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/core/file_system.h"
#include "rft/core/types.h"
#include "rft/io/json.h"

namespace rft {

// kInvalidArgument names every bad line ("train.jsonl:7: messages[1].content: must be text"), the
// first 20 in full and the number of the others, or says that the file has no rows. kNotFound and
// others if it can't be read. Row::index counts rows (blank lines don't count), so it is not the
// line number.
absl::StatusOr<std::vector<std::shared_ptr<const Row>>> ReadDataset(
    const std::string& path, FileSystem& fs = FileSystem::Default());

// One line. kInvalidArgument says what is wrong, without file and line.
absl::StatusOr<Row> ParseRow(std::string_view line, int64_t index);

// A column's text: texts as they are, other values as JSON; numbers that are infinite (1e999) as Python's json.dumps writes them.
std::string ColumnText(const json::value& value);

}  // namespace rft
