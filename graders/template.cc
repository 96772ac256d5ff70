#include "graders/template.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "graders/numbering.h"
#include "graders/sample.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

std::string ColumnNames(const Row& row) {
  std::string names;
  for (const auto& [name, value] : row.columns)
    absl::StrAppend(&names, names.empty() ? "" : ", ", name);
  return names.empty() ? "none" : names;
}

// Null: it has none of that name. Where there are few, without a call per comparison.
const std::string* ColumnOf(const Row& row, const std::string& name) {
  constexpr size_t kFew = 4;
  if (row.columns.size() > kFew) {
    const auto column = row.columns.find(name);
    return column == row.columns.end() ? nullptr : &column->second;
  }
  for (const auto& [key, value] : row.columns) {
    if (numbering_internal::SameShortText(key, name)) return &value;
  }
  return nullptr;
}

std::string AsText(const json::value& value) {
  return value.is_string() ? std::string(value.get_string()) : ToJson(value);
}

// Reads `.name`, `[3]` and `["name"]` off the front of a path.
class PathReader {
 public:
  explicit PathReader(std::string_view path) : rest_(path) {}

  bool AtEnd() const { return rest_.empty(); }

  // nullopt: not a step.
  std::optional<std::variant<std::string, size_t>> Next() {
    if (rest_.front() == '.') {
      const size_t end = std::min(rest_.find_first_of(".[]", 1), rest_.size());
      std::string name(rest_.substr(1, end - 1));
      rest_.remove_prefix(end);
      if (name.empty()) return std::nullopt;
      return name;
    }
    if (rest_.front() != '[' || rest_.size() < 3) return std::nullopt;
    const char quote = rest_[1];
    if (quote == '"' || quote == '\'') {
      const size_t end = rest_.find(quote, 2);
      if (end == std::string_view::npos || end + 1 >= rest_.size() || rest_[end + 1] != ']')
        return std::nullopt;
      std::string name(rest_.substr(2, end - 2));
      rest_.remove_prefix(end + 2);
      return name;
    }
    const size_t end = rest_.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    size_t index = 0;
    if (!absl::SimpleAtoi(absl::string_view(rest_.data() + 1, end - 1), &index))
      return std::nullopt;
    rest_.remove_prefix(end + 1);
    return index;
  }

 private:
  std::string_view rest_;
};

// nullptr where there is no such part.
const json::value* Walk(const json::value* value,
                        const std::vector<std::variant<std::string, size_t>>& steps) {
  for (const auto& step : steps) {
    if (const auto* name = std::get_if<std::string>(&step)) {
      value = value->is_object() ? value->get_object().if_contains(*name) : nullptr;
    } else {
      value = value->is_array() ? value->get_array().if_contains(std::get<size_t>(step)) : nullptr;
    }
    if (value == nullptr) return nullptr;
  }
  return value;
}

}  // namespace

absl::StatusOr<Template::Piece> Template::ParsePlaceholder(std::string_view text) {
  const auto wrong = [&](const std::string& why) {
    return absl::InvalidArgumentError(absl::StrCat("{{", std::string(text), "}} ", why));
  };
  Piece piece{Piece::kItem, std::string(text), "", {}};
  if (text.starts_with("sample.")) {
    piece.kind = Piece::kSample;
  } else if (!text.starts_with("item.") && !text.starts_with("item[")) {
    return wrong("is unknown; use {{item.COLUMN}} or {{sample.output_text}}");
  }
  PathReader path(text.substr(piece.kind == Piece::kItem ? 4 : 6));
  while (!path.AtEnd()) {
    auto step = path.Next();
    if (!step.has_value())
      return wrong(
          "can't be read; write a path as in {{item.tags[0].name}} or {{item[\"due date\"]}}");
    piece.steps.push_back(*std::move(step));
  }
  auto* field = std::get_if<std::string>(&piece.steps.front());
  if (field == nullptr) return wrong("has a number where the name of a column belongs");
  piece.field = std::move(*field);
  piece.steps.erase(piece.steps.begin());
  if (piece.kind == Piece::kSample && !IsSampleField(piece.field)) {
    return wrong("is unknown; sample has output_text, output_json, output_tools and choices");
  }
  piece.is_output_text =
      piece.kind == Piece::kSample && piece.field == "output_text" && piece.steps.empty();
  return piece;
}

absl::StatusOr<Template> Template::Parse(std::string_view text) {
  Template result;
  while (!text.empty()) {
    const size_t open = text.find("{{");
    if (open != 0)
      result.pieces_.push_back({Piece::kText, std::string(text.substr(0, open)), "", {}});
    if (open == std::string_view::npos) break;
    const size_t close = text.find("}}", open);
    if (close == std::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", std::string(text.substr(open)), "\" has no closing }}"));
    }
    const absl::string_view name =
        absl::StripAsciiWhitespace(absl::string_view(text.data() + open + 2, close - open - 2));
    RFT_ASSIGN_OR_RETURN(Piece piece, ParsePlaceholder(std::string_view(name.data(), name.size())));
    result.pieces_.push_back(std::move(piece));
    text.remove_prefix(close + 2);
  }
  return result;
}

std::vector<std::string> Template::Columns() const {
  std::vector<std::string> columns;
  for (const Piece& piece : pieces_) {
    // Every row has messages, though they are no column.
    if (piece.kind == Piece::kItem && piece.field != "messages") columns.push_back(piece.field);
  }
  return columns;
}

absl::StatusOr<std::string> Template::RenderItem(const Piece& piece, const Row& row) {
  const auto column = row.columns.find(piece.field);
  if (column == row.columns.end()) {
    if (piece.field == "messages" && !row.json.empty()) {  // a key of the line, though not a column
      const absl::StatusOr<json::value> line = ParseJson(row.json);
      const json::value* messages =
          line.ok() && line->is_object() ? line->get_object().if_contains("messages") : nullptr;
      if (messages != nullptr) messages = Walk(messages, piece.steps);
      if (messages != nullptr) return AsText(*messages);
    }
    return absl::NotFoundError(absl::StrCat("row ", row.index, " has no column \"", piece.field,
                                            "\"; its columns: ", ColumnNames(row)));
  }
  if (piece.steps.empty()) return column->second;
  const absl::StatusOr<json::value> parsed = ParseJson(column->second);
  const json::value* part = parsed.ok() ? Walk(&*parsed, piece.steps) : nullptr;
  if (part != nullptr) return AsText(*part);
  return absl::NotFoundError(absl::StrCat("row ", row.index, " has no ", piece.text,
                                          "; its column \"", piece.field, "\" is ",
                                          column->second.substr(0, 200)));
}

absl::StatusOr<std::string> Template::RenderSample(const Piece& piece, const Sample& sample) {
  if (piece.field == "output_text" && piece.steps.empty()) return sample.text;
  RFT_ASSIGN_OR_RETURN(const json::value value, SampleField(sample, piece.field));
  const json::value* part = Walk(&value, piece.steps);
  if (part != nullptr) return AsText(*part);
  return absl::FailedPreconditionError(absl::StrCat("the completion has no ", piece.text, "; ",
                                                    piece.field, " is ",
                                                    ToJson(value).substr(0, 200)));
}

std::optional<std::string_view> Template::ViewOf(const Piece& piece, const GradeInput& input) {
  if (piece.kind == Piece::kText) return piece.text;
  if (piece.is_output_text) {
    if (HasToolCallMarkup(input.completion)) return std::nullopt;
    return input.completion;
  }
  if (!piece.steps.empty() || piece.kind == Piece::kSample) return std::nullopt;
  const std::string* const column = ColumnOf(input.row, piece.field);
  if (column == nullptr) return std::nullopt;
  return *column;
}

absl::StatusOr<std::string_view> Template::View(const GradeInput& input, TextBuffer* buffer) const {
  if (pieces_.size() == 1) {
    if (const std::optional<std::string_view> whole = ViewOf(pieces_[0], input)) return *whole;
  }
  buffer->Clear();
  std::optional<Sample> sample;
  for (const Piece& piece : pieces_) {
    if (const std::optional<std::string_view> text = ViewOf(piece, input)) {
      buffer->Append(*text);
    } else if (piece.kind == Piece::kItem) {
      RFT_ASSIGN_OR_RETURN(const std::string made, RenderItem(piece, input.row));
      buffer->Append(made);
    } else {
      if (!sample.has_value()) sample = ParseSample(input.completion, input.finish_reason);
      RFT_ASSIGN_OR_RETURN(const std::string made, RenderSample(piece, *sample));
      buffer->Append(made);
    }
  }
  return buffer->text();
}

absl::StatusOr<std::string> Template::Render(const GradeInput& input) const {
  TextBuffer buffer;
  RFT_ASSIGN_OR_RETURN(const std::string_view text, View(input, &buffer));
  return std::string(text);
}

Template ParseTemplate(ParamReader& params, std::string_view key, std::string_view text) {
  absl::StatusOr<Template> parsed = Template::Parse(text);
  if (!parsed.ok()) {
    params.AddError(key, std::string(parsed.status().message()));
    return Template();
  }
  for (const std::string& column : parsed->Columns()) params.AddColumn(key, column);
  return *std::move(parsed);
}

Template ReadTemplate(ParamReader& params, std::string_view key, std::string_view fallback) {
  if (fallback.empty() && !params.Has(key)) {
    params.AddError(key, "required");
    return Template();
  }
  return ParseTemplate(params, key, params.String(key, fallback));
}

Grade GradeWithoutText(const absl::Status& failure, double lowest_score) {
  const std::string message(failure.message());
  if (failure.code() == absl::StatusCode::kFailedPrecondition)
    return Score{lowest_score, {}, message};
  return GradeError{message};
}

}  // namespace rft
