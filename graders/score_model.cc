// score_model: a language model scores the completion by a rubric, as OpenAI's grader of that name.
//
//   input            list of {role, content}: the rubric and what to judge; content is a template, e.g. {{sample.output_text}}
//   range            [low, high], default [0, 1]; the score is the model's number as it is
//   pass_threshold   reported as sub-score "passed"
// and the keys of graders/judge_grader.h. The model is asked for {"reasoning": text, "result": number}; the reasoning becomes
// the grade's reason. A number outside the range is asked for again, and then a GradeError.

#include "absl/strings/str_cat.h"
#include "graders/judge_grader.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

class ScoreModel : public JudgeGrader {
 public:
  using JudgeGrader::JudgeGrader;
  ~ScoreModel() override { Shutdown(); }

  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<ScoreModel>(ReadOptions(params, spec));
    grader->input_ = ReadMessages(params, "input");
    const absl::StatusOr<json::value> range = ParseJson(params.String("range", "[0, 1]"));
    const json::array* ends = range.ok() ? range->if_array() : nullptr;
    if (ends != nullptr && ends->size() == 2 && ToDouble((*ends)[0]).ok() && ToDouble((*ends)[1]).ok() &&
        *ToDouble((*ends)[0]) < *ToDouble((*ends)[1])) {
      grader->low_ = *ToDouble((*ends)[0]);
      grader->high_ = *ToDouble((*ends)[1]);
    } else {
      params.AddError("range", "must be [low, high]");
    }
    grader->has_threshold_ = params.Has("pass_threshold");
    grader->threshold_ = params.Double("pass_threshold", 0.0);
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

 protected:
  absl::StatusOr<Score> Judge(const GradeJob& job, double until_s) const override {
    RFT_ASSIGN_OR_RETURN(std::vector<Message> messages, input_.Render(job.Input()));
    const std::string range = absl::StrCat(ShortestDouble(low_), " to ", ShortestDouble(high_));
    absl::StrAppend(&messages.back().content,
                    "\n\nReply with a JSON object {\"reasoning\": \"...\", \"result\": number}; the result is a number from ",
                    range, ".");
    constexpr const char* kSchema =
        R"({"type":"object","properties":{"reasoning":{"type":"string"},"result":{"type":"number"}},)"
        R"("required":["reasoning","result"],"additionalProperties":false})";
    const auto check = [&](const json::object& answer) -> absl::Status {
      RFT_ASSIGN_OR_RETURN(const double result, Result(answer));
      if (result >= low_ && result <= high_) return absl::OkStatus();
      return absl::OutOfRangeError(absl::StrCat("the result ", result, " is not from ", range));
    };
    RFT_ASSIGN_OR_RETURN(const json::object answer, Ask(std::move(messages), kSchema, check, until_s));
    RFT_ASSIGN_OR_RETURN(const double result, Result(answer));
    Score score{result, {}, GetString(answer, "reasoning").value_or("")};
    if (has_threshold_) score.sub_scores["passed"] = result >= threshold_ ? 1.0 : 0.0;
    return score;
  }

 private:
  static absl::StatusOr<double> Result(const json::object& answer) {
    const json::value* result = answer.if_contains("result");
    if (result == nullptr || !result->is_number()) return absl::DataLossError("'result' is not a number");
    return ToDouble(*result);
  }

  MessageTemplates input_;
  double low_ = 0.0;
  double high_ = 1.0;
  bool has_threshold_ = false;
  double threshold_ = 0.0;
};

}  // namespace

RFT_REGISTER_GRADER("score_model", ScoreModel);

}  // namespace rft
