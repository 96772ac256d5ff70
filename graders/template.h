// Text with placeholders, as in OpenAI's graders: "{{item.answer}}" is the row's column `answer`, "{{sample.output_text}}"
// what the model wrote (graders/sample.h). Spaces inside the braces are allowed. Parts of a value are reached by path:
//
//   {{item.person.name}}   {{item.tags[0]}}   {{item["due date"]}}   {{sample.output_tools[0].function.name}}
//   {{sample.output_json.total}}   {{sample.choices[0].message.content}}
//
// Text is inserted as it is, any other value as JSON. Immutable after Parse; Render may be called from several threads.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "graders/grader.h"
#include "graders/param_reader.h"

namespace rft {

// Room for a text that has to be put together; on the stack while it is short.
class TextBuffer {
 public:
  void Clear() { size_ = 0; }
  void Append(std::string_view text) {
    if (size_ + text.size() <= sizeof short_) {
      text.copy(short_ + size_, text.size());
    } else {
      if (size_ <= sizeof short_) long_.assign(short_, size_);
      long_.append(text);
    }
    size_ += text.size();
  }
  // Until the next Append.
  std::string_view text() const {
    return size_ <= sizeof short_ ? std::string_view(short_, size_) : long_;
  }

 private:
  char short_[256];
  std::string long_;  // all of it, once it does not fit
  size_t size_ = 0;
};

struct Sample;

class Template {
 public:
  Template() = default;  // renders ""

  // kInvalidArgument: an unclosed "{{", a path that can't be read, or one that begins neither with item. nor with a field
  // of sample.
  static absl::StatusOr<Template> Parse(std::string_view text);

  // kNotFound: the row has no such value; names the column and lists those the row has.
  // kFailedPrecondition: the completion has no such part (it is not JSON, calls no tool, ...).
  absl::StatusOr<std::string> Render(const GradeInput& input) const;

  // The columns that Render reads.
  std::vector<std::string> Columns() const;

  // As Render, without a copy where the template is one text of the row or the completion: a view into those, or into
  // `*buffer`.
  absl::StatusOr<std::string_view> View(const GradeInput& input, TextBuffer* buffer) const;

 private:
  using Step = std::variant<std::string, size_t>;  // a member, or an element
  struct Piece {
    enum Kind { kText, kItem, kSample } kind;
    std::string text;             // the literal text; the placeholder as written
    std::string field;            // item: the column; sample: output_text, ...
    std::vector<Step> steps;      // into that value
    bool is_output_text = false;  // all of it
  };
  static absl::StatusOr<Piece> ParsePlaceholder(std::string_view text);
  // nullopt: it has to be made.
  static std::optional<std::string_view> ViewOf(const Piece& piece, const GradeInput& input);
  static absl::StatusOr<std::string> RenderItem(const Piece& piece, const Row& row);
  static absl::StatusOr<std::string> RenderSample(const Piece& piece, const Sample& sample);

  std::vector<Piece> pieces_;
};

// Parses a template that parameter `key` holds. Mistakes, and the columns it reads, are added to `params`.
Template ParseTemplate(ParamReader& params, std::string_view key, std::string_view text);
// The same of all that parameter `key` holds; `fallback` empty = required.
Template ReadTemplate(ParamReader& params, std::string_view key, std::string_view fallback = "");

// The grade when Render failed. What the row lacks is the dataset's mistake: GradeError, the rollout is not used. What the
// completion lacks is the model's: the lowest score, with the reason.
Grade GradeWithoutText(const absl::Status& failure, double lowest_score = 0.0);

}  // namespace rft
