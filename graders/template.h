// Text with placeholders, as in OpenAI's graders: "{{item.answer}}" is the row's column `answer`,
// "{{sample.output_text}}" the completion. Spaces inside the braces are allowed.
//
//   Template::Parse("{{ item.a }} and {{item.b}}")  with columns a = "1", b = "2"  renders  "1 and 2"
//
// Immutable after Parse; Render may be called from several threads.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "graders/grader.h"
#include "graders/param_reader.h"

namespace rft {

class Template {
 public:
  Template() = default;  // renders ""

  // kInvalidArgument: an unclosed "{{", or a placeholder that is neither item.COLUMN nor sample.output_text.
  static absl::StatusOr<Template> Parse(std::string_view text);

  // kNotFound names the column and lists those the row has.
  absl::StatusOr<std::string> Render(const GradeInput& input) const;

 private:
  enum class Kind { kText, kColumn, kOutputText };
  struct Piece {
    Kind kind;
    std::string text;  // literal text, or the column's name
  };
  std::vector<Piece> pieces_;
};

// Parses the template in parameter `key`; `fallback` empty = required. Mistakes are added to `params`.
Template ReadTemplate(ParamReader& params, std::string_view key, std::string_view fallback = "");

}  // namespace rft
