#include "rft/io/dataset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

constexpr size_t kMaxReported = 20;
constexpr size_t kMaxLineBytes = size_t{64} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

absl::StatusOr<Message> ParseMessage(const json::value& value, const std::string& where) {
  const auto wrong = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(where, what));
  };
  if (!value.is_object()) return wrong(": must be an object with role and content");
  const absl::StatusOr<std::string> role = GetString(value.get_object(), "role");
  if (!role.ok()) return wrong(absl::StrCat(": ", std::string(role.status().message())));
  if (std::find(kRoles.begin(), kRoles.end(), *role) == kRoles.end()) {
    return wrong(
        absl::StrCat(".role: ", JsonQuote(*role), " is not one of ",
                     absl::StrJoin(std::vector<std::string>(kRoles.begin(), kRoles.end()), ", ")));
  }
  const json::value* content = value.get_object().if_contains("content");
  if (content == nullptr) return wrong(": 'content' is missing");
  if (!content->is_string()) {
    return wrong(absl::StrCat(".content: must be text",
                              content->is_array() ? " (lists of parts are not supported)" : ""));
  }
  return Message{*role, std::string(content->get_string().data(), content->get_string().size())};
}

}  // namespace

std::string ColumnText(const json::value& value) {
  if (value.is_string()) return std::string(value.get_string().data(), value.get_string().size());
  if (value.is_double() && std::isinf(value.get_double()))
    return value.get_double() > 0 ? "Infinity" : "-Infinity";
  return ToJson(value);
}

absl::StatusOr<Row> ParseRow(std::string_view line, int64_t index) {
  line = Trim(line);
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(line, {.max_bytes = kMaxLineBytes,
                                                                 .reject_duplicate_keys = true}));
  if (!value.is_object())
    return absl::InvalidArgumentError("must be a JSON object with a key 'messages'");
  Row row;
  row.index = index;
  row.json = std::string(line);
  RFT_ASSIGN_OR_RETURN(const json::array* messages, GetArray(value.get_object(), "messages"));
  if (messages->empty()) return absl::InvalidArgumentError("'messages' is empty");
  for (size_t i = 0; i < messages->size(); ++i) {
    RFT_ASSIGN_OR_RETURN(Message message,
                         ParseMessage((*messages)[i], absl::StrCat("messages[", i, "]")));
    row.messages.push_back(std::move(message));
  }
  if (row.messages.back().role == "assistant") {
    return absl::InvalidArgumentError(
        "the last message is the assistant's; leave it out (put the expected answer into a key of "
        "its own)");
  }
  for (const json::key_value_pair& member : value.get_object()) {
    const std::string key(member.key().data(), member.key().size());
    if (key == "messages") continue;
    row.columns[key] = ColumnText(member.value());
  }
  return row;
}

absl::StatusOr<std::vector<std::shared_ptr<const Row>>> ReadDataset(const std::string& path,
                                                                    FileSystem& fs) {
  RFT_ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(path));
  std::string_view rest = text;
  if (rest.starts_with(kByteOrderMark)) rest.remove_prefix(kByteOrderMark.size());
  std::vector<std::shared_ptr<const Row>> rows;
  std::vector<std::string> mistakes;
  size_t num_mistakes = 0;
  for (int64_t line_number = 1; !rest.empty(); ++line_number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (Trim(line).empty()) continue;
    absl::StatusOr<Row> row = ParseRow(line, static_cast<int64_t>(rows.size()));
    if (row.ok()) {
      rows.push_back(std::make_shared<const Row>(*std::move(row)));
    } else if (++num_mistakes <= kMaxReported) {
      std::string message(row.status().message());
      // The parser counts lines within the one line it sees; only its column is of use here.
      if (message.starts_with("line 1, ")) message.erase(0, 8);
      mistakes.push_back(absl::StrCat(path, ":", line_number, ": ", message));
    }
  }
  if (num_mistakes > kMaxReported)
    mistakes.push_back(absl::StrCat("... and ", num_mistakes - kMaxReported, " more bad lines"));
  if (!mistakes.empty()) return absl::InvalidArgumentError(absl::StrJoin(mistakes, "\n"));
  if (rows.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": the dataset has no rows; each line must be {\"messages\": [...], ...}"));
  }
  return rows;
}

}  // namespace rft
