// openai: a grader written as OpenAI's grader JSON (graders/openai_json.h), run here.
//
//   file     path of the JSON; a relative one starts at the folder of run.yaml
//   grader   the JSON itself (a map in run.yaml); instead of `file`
//   base_url, api_key_env, headers, max_concurrent, attempts, generator     for its model graders (graders/model_judge.cc)
//
// What their service leaves open is decided as for our own graders: what fails is no score and never 0.

#include <filesystem>
#include <optional>

#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/openai_json.h"
#include "graders/param_reader.h"
#include "rft/core/file_system.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

std::optional<std::string> ReadText(ParamReader& params, const GraderSpec& spec) {
  const std::string file = params.String("file", "");
  const std::string grader = params.String("grader", "");
  if (file.empty() == grader.empty()) {
    params.AddError("file", file.empty() ? "required (or the JSON itself as grader)"
                                         : "give either file or grader, not both");
    return std::nullopt;
  }
  if (!grader.empty()) return grader;
  std::filesystem::path path = file;
  if (path.is_relative()) path = std::filesystem::path(spec.base_dir) / path;
  absl::StatusOr<std::string> text = FileSystem::Default().ReadFile(path.string());
  if (text.ok()) return *std::move(text);
  params.AddError("file", std::string(text.status().message()));
  return std::nullopt;
}

constexpr const char* kServiceKeys[] = {"base_url",       "api_key_env", "headers",
                                        "max_concurrent", "attempts",    "generator"};

// Gives the keys to the model graders within.
void AddServiceKeys(const json::object& keys, json::object& grader) {
  const json::string& type = grader["type"].as_string();
  if (type == "score_model" || type == "label_model") {
    for (const json::key_value_pair& key : keys) grader[key.key()] = key.value();
  }
  if (json::value* parts = grader.if_contains("graders")) {
    for (json::key_value_pair& part : parts->get_object())
      AddServiceKeys(keys, part.value().get_object());
  }
}

struct OpenAi {
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    const std::optional<std::string> text = ReadText(params, spec);
    json::object service;
    for (const char* key : kServiceKeys) {
      if (params.Has(key)) service[key] = params.String(key, "");
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    const char* key = spec.params.count("file") > 0 ? "file" : "grader";
    const absl::StatusOr<json::value> parsed = ParseJson(*text);
    if (!parsed.ok()) {
      params.AddError(key, std::string(parsed.status().message()));
      return params.Finish();
    }
    for (const OpenAiMistake& mistake : CheckOpenAiGrader(*parsed)) {
      const bool named = mistake.message.find(mistake.param) != std::string::npos;
      params.AddError(key,
                      named ? mistake.message : absl::StrCat(mistake.param, ": ", mistake.message));
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    json::object ours = FromOpenAiGrader(parsed->get_object());
    AddServiceKeys(service, ours);
    return CreateGrader(Ours(spec, ours));
  }

 private:
  static GraderSpec Ours(const GraderSpec& spec, const json::object& keys) {
    GraderSpec ours;
    ours.name = spec.name;
    ours.weight = spec.weight;
    ours.deadline_s = spec.deadline_s;
    ours.base_dir = spec.base_dir;
    ours.columns = spec.columns;
    for (const json::key_value_pair& member : keys) {
      const json::value& value = member.value();
      std::string text = value.is_string() ? std::string(value.get_string()) : ToJson(value);
      if (member.key() == "type") {
        ours.type = std::move(text);
      } else {
        ours.params[std::string(member.key())] = std::move(text);
      }
    }
    return ours;
  }
};

}  // namespace

RFT_REGISTER_GRADER("openai", OpenAi);

}  // namespace rft
