#include "graders/template.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace rft {
namespace {

constexpr std::string_view kItem = "item.";
constexpr std::string_view kOutputText = "sample.output_text";

std::string ColumnNames(const Row& row) {
  std::string names;
  for (const auto& [name, value] : row.columns)
    absl::StrAppend(&names, names.empty() ? "" : ", ", name);
  return names.empty() ? "none" : names;
}

}  // namespace

absl::StatusOr<Template> Template::Parse(std::string_view text) {
  Template result;
  while (!text.empty()) {
    const size_t open = text.find("{{");
    if (open != 0) result.pieces_.push_back({Kind::kText, std::string(text.substr(0, open))});
    if (open == std::string_view::npos) break;
    const size_t close = text.find("}}", open);
    if (close == std::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", std::string(text.substr(open)), "\" has no closing }}"));
    }
    std::string name(text.substr(open + 2, close - open - 2));
    absl::StripAsciiWhitespace(&name);
    if (name == kOutputText) {
      result.pieces_.push_back({Kind::kOutputText, ""});
    } else if (name.starts_with(kItem) && name.size() > kItem.size()) {
      result.pieces_.push_back({Kind::kColumn, name.substr(kItem.size())});
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("{{", name, "}} is unknown; use {{item.COLUMN}} or {{sample.output_text}}"));
    }
    text.remove_prefix(close + 2);
  }
  return result;
}

absl::StatusOr<std::string> Template::Render(const GradeInput& input) const {
  std::string out;
  for (const Piece& piece : pieces_) {
    switch (piece.kind) {
      case Kind::kText:
        out += piece.text;
        break;
      case Kind::kOutputText:
        out += input.completion;
        break;
      case Kind::kColumn: {
        auto it = input.row.columns.find(piece.text);
        if (it == input.row.columns.end()) {
          return absl::NotFoundError(absl::StrCat("row ", input.row.index, " has no column \"",
                                                  piece.text,
                                                  "\"; its columns: ", ColumnNames(input.row)));
        }
        out += it->second;
        break;
      }
    }
  }
  return out;
}

Template ReadTemplate(ParamReader& params, std::string_view key, std::string_view fallback) {
  if (fallback.empty() && !params.Has(key)) {
    params.AddError(key, "required");
    return Template();
  }
  absl::StatusOr<Template> parsed = Template::Parse(params.String(key, fallback));
  if (parsed.ok()) return *std::move(parsed);
  const absl::string_view message = parsed.status().message();
  params.AddError(key, std::string_view(message.data(), message.size()));
  return Template();
}

}  // namespace rft
