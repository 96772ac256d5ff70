// label_model: a language model gives the completion one of some labels, as OpenAI's grader of that name. Score 1 for a passing
// label, else 0.
//
//   input            list of {role, content}; content is a template
//   labels           list of texts
//   passing_labels   those of them that score 1
// and the keys of graders/judge_grader.h. The model is asked for {"reasoning": text, "result": label}.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graders/judge_grader.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

std::vector<std::string> ReadTexts(ParamReader& params, std::string_view key) {
  std::vector<std::string> texts;
  const absl::StatusOr<json::value> parsed = ParseJson(params.Required(key));
  const json::array* list = parsed.ok() ? parsed->if_array() : nullptr;
  for (size_t i = 0; list != nullptr && i < list->size(); ++i) {
    if ((*list)[i].is_string()) texts.emplace_back((*list)[i].get_string());
  }
  if (list == nullptr || list->empty() || texts.size() != list->size()) params.AddError(key, "must be a list of texts");
  return texts;
}

bool Contains(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

class LabelModel : public JudgeGrader {
 public:
  using JudgeGrader::JudgeGrader;
  ~LabelModel() override { Shutdown(); }

  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<LabelModel>(ReadOptions(params, spec));
    grader->input_ = ReadMessages(params, "input");
    grader->labels_ = ReadTexts(params, "labels");
    grader->passing_ = ReadTexts(params, "passing_labels");
    for (const std::string& label : grader->passing_) {
      if (!Contains(grader->labels_, label)) params.AddError("passing_labels", "\"" + label + "\" is not one of the labels");
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

 protected:
  absl::StatusOr<Score> Judge(const GradeJob& job, double until_s) const override {
    RFT_ASSIGN_OR_RETURN(std::vector<Message> messages, input_.Render(job.Input()));
    const std::string quoted = absl::StrJoin(labels_, ", ", [](std::string* out, const std::string& label) {
      out->append(JsonQuote(label));
    });
    absl::StrAppend(&messages.back().content,
                    "\n\nReply with a JSON object {\"reasoning\": \"...\", \"result\": label}; the label is one of ", quoted, ".");
    const std::string schema = absl::StrCat(
        R"({"type":"object","properties":{"reasoning":{"type":"string"},"result":{"type":"string","enum":[)", quoted,
        R"(]}},"required":["reasoning","result"],"additionalProperties":false})");
    const auto check = [&](const json::object& answer) -> absl::Status {
      RFT_ASSIGN_OR_RETURN(const std::string label, GetString(answer, "result"));
      if (Contains(labels_, label)) return absl::OkStatus();
      return absl::OutOfRangeError(absl::StrCat("the result \"", label, "\" is none of the labels"));
    };
    RFT_ASSIGN_OR_RETURN(const json::object answer, Ask(std::move(messages), schema, check, until_s));
    RFT_ASSIGN_OR_RETURN(const std::string label, GetString(answer, "result"));
    return Score{Contains(passing_, label) ? 1.0 : 0.0, {},
                 absl::StrCat(label, ": ", GetString(answer, "reasoning").value_or(""))};
  }

 private:
  MessageTemplates input_;
  std::vector<std::string> labels_;
  std::vector<std::string> passing_;
};

}  // namespace

RFT_REGISTER_GRADER("label_model", LabelModel);

}  // namespace rft
