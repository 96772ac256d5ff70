// score_model, label_model: another model judges, as OpenAI's graders of those names, through any server that speaks their
// chat API.
//
//   model             the judge's name at the server
//   input             the messages it is sent, templates: [{"role": "user", "content": "Rate {{sample.output_text}}"}]
//   sampling_params   temperature, top_p, seed, max_completions_tokens, reasoning_effort: a map
//   base_url          default $OPENAI_BASE_URL or https://api.openai.com/v1; api_key_env: default OPENAI_API_KEY; other keys
//                     of the service: graders/service_calls.h
//   generator         instead of base_url: a model of our own, as an llm_judge's (graders/judge_grader.h), which is then the judge
//                     whatever `model` says; of sampling_params it takes temperature, top_p, seed and the maximum of tokens
//   score_model:  range (default [0, 1]: what the judge says is cut off there), pass_threshold (sub-score `passed`)
//   label_model:  labels, passing_labels: score 1 where the judge's label is a passing one, else 0
//
// The judge is asked for {"steps": [{"description", "conclusion"}], "result": number or label} by response_format; a bare
// number or label is understood too. The conclusions become the reason. A judge that is not there, refuses, or answers
// something else is a GradeError, never a 0.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "graders/async_grader.h"
#include "graders/chat_completion.h"
#include "graders/judge_grader.h"
#include "graders/param_reader.h"
#include "graders/reply_schema.h"
#include "graders/service_calls.h"
#include "graders/template.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

struct JudgeMessage {
  std::string role;
  Template content;
};

std::string EnvOr(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

std::vector<JudgeMessage> ReadMessages(ParamReader& params) {
  std::vector<JudgeMessage> messages;
  const absl::StatusOr<json::value> list = ParseJson(params.Required("input"));
  if (!list.ok() || !list->is_array() || list->get_array().empty()) {
    if (params.Has("input"))
      params.AddError("input", "must be a list of {role: ..., content: ...}");
    return messages;
  }
  for (const json::value& message : list->get_array()) {
    const json::object* object = message.if_object();
    const absl::StatusOr<std::string> role =
        object != nullptr ? GetString(*object, "role") : absl::InvalidArgumentError("no map");
    const absl::StatusOr<std::string> content =
        object != nullptr ? GetString(*object, "content") : absl::InvalidArgumentError("no map");
    if (!role.ok() || !content.ok()) {
      params.AddError("input",
                      absl::StrCat("message ", messages.size() + 1, " needs role and content"));
      return messages;
    }
    messages.push_back({*role, ParseTemplate(params, "input", *content)});
  }
  return messages;
}

json::object ReadSampling(ParamReader& params) {
  const absl::StatusOr<json::value> map = ParseJson(params.String("sampling_params", "{}"));
  if (!map.ok() || !map->is_object()) {
    params.AddError("sampling_params", "must be a map");
    return {};
  }
  json::object sampling;
  for (const json::key_value_pair& member : map->get_object()) {
    if (member.value().is_null()) continue;
    // The service's graders say it with an s too many.
    const bool max_tokens = member.key() == "max_completions_tokens";
    sampling[max_tokens ? json::string_view("max_completion_tokens") : member.key()] =
        member.value();
  }
  return sampling;
}

json::value ReplySchema(json::object result) {
  const json::object text{{"type", "string"}};
  const json::object step{{"type", "object"},
                          {"properties", json::object{{"description", text}, {"conclusion", text}}},
                          {"required", json::array{"description", "conclusion"}},
                          {"additionalProperties", false}};
  return {{"type", "object"},
          {"properties", json::object{{"steps", json::object{{"type", "array"}, {"items", step}}},
                                      {"result", std::move(result)}}},
          {"required", json::array{"steps", "result"}},
          {"additionalProperties", false}};
}

struct Judgement {
  json::value result;
  std::string reason;
};

Judgement ReadJudgement(const std::string& text) {
  const absl::StatusOr<json::value> parsed = ParseJson(text);
  if (!parsed.ok() || !parsed->is_object()) {
    const absl::string_view bare = absl::StripAsciiWhitespace(text);
    return {json::value(json::string_view(bare.data(), bare.size())), ""};
  }
  const json::object& object = parsed->get_object();
  Judgement judgement;
  if (const json::value* result = object.if_contains("result")) judgement.result = *result;
  if (const json::value* steps = object.if_contains("steps");
      steps != nullptr && steps->is_array()) {
    for (const json::value& step : steps->get_array()) {
      if (!step.is_object()) continue;
      const absl::StatusOr<std::string> conclusion = GetString(step.get_object(), "conclusion");
      if (conclusion.ok())
        absl::StrAppend(&judgement.reason, judgement.reason.empty() ? "" : "; ", *conclusion);
    }
  }
  return judgement;
}

// What both graders have in common; they differ in what the result may be and in how it is scored.
struct ModelJudgeOptions {
  std::vector<JudgeMessage> messages;
  json::object result_schema;
  double lowest_score = 0.0;  // where the completion lacks what the messages ask for
  std::function<Grade(const Judgement&)> score;
  // The judge is at a server, or of our own.
  double deadline_s = 10.0;
  ServiceOptions service;
  std::string model;
  json::object sampling;
  std::optional<JudgeOptions> own;
};

// What `sampling` says, as far as our own models know it.
void SampleAs(const json::object& sampling, ParamReader& params, TextRequest& request) {
  for (const json::key_value_pair& member : sampling) {
    const double value = ToDouble(member.value()).value_or(-1.0);
    if (member.key() == "temperature") {
      request.temperature = value;
    } else if (member.key() == "top_p") {
      request.top_p = value;
    } else if (member.key() == "seed") {
      request.seed = static_cast<uint64_t>(value);
    } else if (member.key() == "max_completion_tokens" || member.key() == "max_tokens") {
      request.max_tokens = static_cast<int32_t>(std::clamp(value, 1.0, 1048576.0));
    }
    if (member.key() != "reasoning_effort" && value < 0)
      params.AddError("sampling_params",
                      absl::StrCat(std::string(member.key()), " is not a number from 0 on"));
  }
}

ModelJudgeOptions ReadOptions(ParamReader& params, const GraderSpec& spec) {
  ModelJudgeOptions options;
  options.deadline_s = spec.deadline_s;
  options.messages = ReadMessages(params);
  options.sampling = ReadSampling(params);
  if (params.Has("generator")) {
    options.model = params.String("model", "");
    options.own = JudgeGrader::ReadOptions(params, spec);
    SampleAs(options.sampling, params, options.own->sampling);
    return options;
  }
  options.model = params.Required("model");
  options.service = ReadServiceOptions(
      params, "base_url", EnvOr("OPENAI_BASE_URL", "https://api.openai.com/v1"), "OPENAI_API_KEY");
  options.service.url = ChatUrl(options.service.url);
  return options;
}

// A model of our own judges.
class OwnModelJudge : public JudgeGrader {
 public:
  explicit OwnModelJudge(ModelJudgeOptions options)
      : JudgeGrader(*options.own), options_(std::move(options)) {}
  ~OwnModelJudge() override { Shutdown(); }

 protected:
  absl::StatusOr<Score> Judge(const GradeJob& job, double until_s) const override {
    std::vector<Message> messages;
    for (const JudgeMessage& message : options_.messages) {
      absl::StatusOr<std::string> content = message.content.Render(job.Input());
      if (!content.ok()) return ToScore(GradeWithoutText(content.status(), options_.lowest_score));
      // Chat templates know no developer.
      messages.push_back(
          {message.role == "developer" ? "system" : message.role, *std::move(content)});
    }
    messages.back().content +=
        "\n\nReply with a JSON object {\"reasoning\": \"...\", \"result\": ...}.";
    const auto score_of = [this](const json::object& answer) {
      Judgement judgement;
      if (const json::value* result = answer.if_contains("result")) judgement.result = *result;
      judgement.reason = GetString(answer, "reasoning").value_or("");
      return ToScore(options_.score(judgement));
    };
    RFT_ASSIGN_OR_RETURN(
        const json::object answer,
        Ask(
            std::move(messages), ReasonedReply(options_.result_schema),
            [&](const json::object& given) { return score_of(given).status(); }, until_s));
    return score_of(answer);
  }

 private:
  static absl::StatusOr<Score> ToScore(Grade grade) {
    if (Score* score = std::get_if<Score>(&grade)) return std::move(*score);
    return absl::DataLossError(GradeReason(grade));
  }

  const ModelJudgeOptions options_;
};

// One at a server.
class ModelJudge : public AsyncGrader {
 public:
  explicit ModelJudge(ModelJudgeOptions options)
      : options_(std::move(options)), calls_(options_.service.max_concurrent) {}

  absl::Status Prepare() const override { return absl::OkStatus(); }

  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override {
    json::array messages;
    for (const JudgeMessage& message : options_.messages) {
      const absl::StatusOr<std::string> content = message.content.Render(job->Input());
      if (!content.ok()) return done(GradeWithoutText(content.status(), options_.lowest_score));
      messages.push_back(ChatMessage(message.role, *content));
    }
    json::object body = options_.sampling;
    body["model"] = options_.model;
    body["messages"] = std::move(messages);
    body["response_format"] = StrictFormat(ReplySchema(options_.result_schema));
    calls_.Send(options_.service.Request(ToJson(body), options_.deadline_s, NewIdempotencyKey()),
                [this, done = std::move(done)](absl::StatusOr<HttpResponse> response) {
                  done(Answer(response));
                });
  }

  void Shutdown() const override { calls_.Shutdown(); }

 private:
  Grade Answer(const absl::StatusOr<HttpResponse>& response) const {
    const absl::Status status = response.ok() ? HttpStatus(*response) : response.status();
    if (!status.ok()) return GradeOfFailure(status, options_.deadline_s);
    const absl::StatusOr<GeneratedText> reply = ReadChatCompletion(response->body);
    if (!reply.ok())
      return GradeError{absl::StrCat("judge ", options_.model, ": ", reply.status().message())};
    return options_.score(ReadJudgement(reply->text));
  }

  const ModelJudgeOptions options_;
  mutable ServiceCalls calls_;
};

std::unique_ptr<Grader> MakeJudge(ModelJudgeOptions options) {
  if (options.own.has_value()) return std::make_unique<OwnModelJudge>(std::move(options));
  return std::make_unique<ModelJudge>(std::move(options));
}

Grade NotUnderstood(const Judgement& judgement, const char* expected) {
  return GradeError{absl::StrCat("the judge's result is not ", expected, ": ",
                                 ToJson(judgement.result).substr(0, 200))};
}

struct ScoreModel {
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    ModelJudgeOptions options = ReadOptions(params, spec);
    const auto [low, high] = params.Range("range", 0.0, 1.0);
    std::optional<double> threshold;
    if (params.Has("pass_threshold")) threshold = params.Double("pass_threshold", 0.0);
    RFT_RETURN_IF_ERROR(params.Finish());
    options.result_schema = {{"type", "number"}};
    if (options.own.has_value()) {  // not all servers take these
      options.result_schema["minimum"] = low;
      options.result_schema["maximum"] = high;
    }
    options.lowest_score = low;
    options.score = [low = low, high = high, threshold](const Judgement& judgement) -> Grade {
      double value = 0.0;
      if (judgement.result.is_number()) {
        value = judgement.result.to_number<double>();
      } else if (!judgement.result.is_string() ||
                 !absl::SimpleAtod(judgement.result.get_string().c_str(), &value)) {
        return NotUnderstood(judgement, "a number");
      }
      if (std::isnan(value)) return NotUnderstood(judgement, "a number");
      Score score{std::clamp(value, low, high), {}, judgement.reason};
      if (threshold.has_value()) score.sub_scores["passed"] = score.value >= *threshold ? 1.0 : 0.0;
      return score;
    };
    return MakeJudge(std::move(options));
  }
};

struct LabelModel {
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    ModelJudgeOptions options = ReadOptions(params, spec);
    std::vector<std::string> labels = params.Texts("labels", "texts", ParamReader::Need::kRequired);
    std::vector<std::string> passing =
        params.Texts("passing_labels", "texts", ParamReader::Need::kRequired);
    for (const std::string& label : passing) {
      if (std::find(labels.begin(), labels.end(), label) == labels.end())
        params.AddError("passing_labels", absl::StrCat("\"", label, "\" is not one of the labels"));
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    json::array choices;
    for (const std::string& label : labels) choices.push_back(json::value(label));
    options.result_schema = {{"type", "string"}, {"enum", std::move(choices)}};
    options.score = [labels = std::move(labels),
                     passing = std::move(passing)](const Judgement& judgement) -> Grade {
      const std::string label =
          judgement.result.is_string() ? std::string(judgement.result.get_string()) : "";
      if (std::find(labels.begin(), labels.end(), label) == labels.end())
        return NotUnderstood(judgement, "one of the labels");
      const bool passed = std::find(passing.begin(), passing.end(), label) != passing.end();
      return Score{passed ? 1.0 : 0.0,
                   {},
                   absl::StrCat(label, judgement.reason.empty() ? "" : ": ", judgement.reason)};
    };
    return MakeJudge(std::move(options));
  }
};

}  // namespace

RFT_REGISTER_GRADER("score_model", ScoreModel);
RFT_REGISTER_GRADER("label_model", LabelModel);

}  // namespace rft
