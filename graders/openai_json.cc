#include "graders/openai_json.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

constexpr size_t kMaxSourceBytes = 256 << 10;  // of a python grader
constexpr int kMaxDepth = 8;                   // of multi in multi

enum class Need { kOptional, kRequired };

const char* KindName(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
      return "an integer";
    case json::kind::double_:
      return "a number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "an array";
    default:
      return "an object";
  }
}

// "'eq', 'ne', and 'like'"
std::string Quoted(const std::vector<std::string>& choices) {
  std::string out;
  for (size_t i = 0; i < choices.size(); ++i) {
    const bool last = i + 1 == choices.size();
    if (i > 0) out += choices.size() == 2 ? " and " : last ? ", and " : ", ";
    absl::StrAppend(&out, "'", choices[i], "'");
  }
  return out;
}

class Checker {
 public:
  std::vector<OpenAiMistake> mistakes;

  void Grader(const json::value& value, const std::string& path, int depth);

 private:
  using Check = std::function<void(const json::value&, const std::string& path)>;

  // One object: which keys it may have, and what is wrong with their values.
  class Object {
   public:
    Object(Checker& checker, const json::object& object, std::string path)
        : checker_(checker), object_(object), path_(std::move(path)) {}

    void Key(const std::string& key, Need need, const Check& check) {
      known_.push_back(key);
      const json::value* value = object_.if_contains(key);
      const std::string path = absl::StrCat(path_, ".", key);
      if (value != nullptr && !(value->is_null() && need == Need::kOptional)) {
        check(*value, path);
      } else if (need == Need::kRequired) {
        checker_.Add(absl::StrCat("Missing required parameter: '", path, "'."), path,
                     "missing_required_parameter");
      }
    }

    void Finish() {
      for (const json::key_value_pair& member : object_) {
        const std::string key(member.key());
        if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
        const std::string path = absl::StrCat(path_, ".", key);
        const std::optional<std::string> near = DidYouMean(key, known_);
        checker_.Add(absl::StrCat("Unknown parameter: '", path, "'.",
                                  near ? " Did you mean '" + *near + "'?" : ""),
                     path, "unknown_parameter");
      }
    }

   private:
    Checker& checker_;
    const json::object& object_;
    const std::string path_;
    std::vector<std::string> known_;
  };

  void Add(std::string message, std::string path, std::string code) {
    mistakes.push_back({std::move(message), std::move(path), std::move(code)});
  }
  void WrongType(const json::value& value, const std::string& path, const char* expected) {
    Add(absl::StrCat("Invalid type for '", path, "': expected ", expected, ", but got ",
                     KindName(value), " instead."),
        path, "invalid_type");
  }
  void WrongValue(const std::string& path, const std::string& what) {
    Add(absl::StrCat("Invalid value for '", path, "': ", what), path, "invalid_value");
  }

  Check Text() {
    return [this](const json::value& value, const std::string& path) {
      if (!value.is_string()) WrongType(value, path, "a string");
    };
  }
  Check Number() {
    return [this](const json::value& value, const std::string& path) {
      if (!value.is_number()) WrongType(value, path, "a number");
    };
  }
  Check OneOf(std::vector<std::string> choices) {
    return [this, choices = std::move(choices)](const json::value& value, const std::string& path) {
      if (!value.is_string()) return WrongType(value, path, "a string");
      const std::string text(value.get_string());
      if (std::find(choices.begin(), choices.end(), text) != choices.end()) return;
      Add(absl::StrCat("Invalid value: '", text, "'. Supported values are: ", Quoted(choices), "."),
          path, "invalid_value");
    };
  }
  Check Texts() {
    return [this](const json::value& value, const std::string& path) {
      if (!value.is_array()) return WrongType(value, path, "an array of strings");
      for (size_t i = 0; i < value.get_array().size(); ++i) {
        if (!value.get_array()[i].is_string())
          WrongType(value.get_array()[i], absl::StrCat(path, "[", i, "]"), "a string");
      }
      if (value.get_array().empty()) WrongValue(path, "expected at least one.");
    };
  }

  void Range(const json::value& value, const std::string& path);
  void Messages(const json::value& value, const std::string& path);
  void SamplingParams(const json::value& value, const std::string& path);
  void Parts(const json::value& value, const std::string& path, int depth);
  void ModelKeys(Object& object);
  void LabelKeys(Object& object, const json::object& grader, const std::string& path);
};

void Checker::Range(const json::value& value, const std::string& path) {
  if (!value.is_array() || value.get_array().size() != 2 || !value.get_array()[0].is_number() ||
      !value.get_array()[1].is_number()) {
    return WrongType(value, path, "an array of two numbers");
  }
  if (!(value.get_array()[0].to_number<double>() < value.get_array()[1].to_number<double>()))
    WrongValue(path, "the first number must be below the second.");
}

void Checker::Messages(const json::value& value, const std::string& path) {
  if (!value.is_array()) return WrongType(value, path, "an array of messages");
  if (value.get_array().empty()) WrongValue(path, "expected at least one message.");
  for (size_t i = 0; i < value.get_array().size(); ++i) {
    const json::value& message = value.get_array()[i];
    const std::string here = absl::StrCat(path, "[", i, "]");
    if (!message.is_object()) {
      WrongType(message, here, "an object");
      continue;
    }
    Object object(*this, message.get_object(), here);
    object.Key("role", Need::kRequired, OneOf({"system", "developer", "user", "assistant"}));
    object.Key("type", Need::kOptional, OneOf({"message"}));
    object.Key("content", Need::kRequired,
               [this](const json::value& content, const std::string& at) {
                 // Text, or {"type": "input_text", "text": ...}.
                 if (content.is_string()) return;
                 if (!content.is_object()) return WrongType(content, at, "a string");
                 Object part(*this, content.get_object(), at);
                 part.Key("type", Need::kRequired, OneOf({"input_text", "output_text"}));
                 part.Key("text", Need::kRequired, Text());
                 part.Finish();
               });
    object.Finish();
  }
}

void Checker::SamplingParams(const json::value& value, const std::string& path) {
  if (!value.is_object()) return WrongType(value, path, "an object");
  Object object(*this, value.get_object(), path);
  for (const char* key :
       {"temperature", "top_p", "seed", "max_completions_tokens", "max_completion_tokens"})
    object.Key(key, Need::kOptional, Number());
  object.Key("reasoning_effort", Need::kOptional,
             OneOf({"none", "minimal", "low", "medium", "high", "xhigh"}));
  object.Finish();
}

void Checker::ModelKeys(Object& object) {
  object.Key("model", Need::kRequired, Text());
  object.Key("input", Need::kRequired,
             [this](const json::value& v, const std::string& path) { Messages(v, path); });
  object.Key("sampling_params", Need::kOptional,
             [this](const json::value& v, const std::string& path) { SamplingParams(v, path); });
}

void Checker::LabelKeys(Object& object, const json::object& grader, const std::string& path) {
  object.Key("labels", Need::kRequired, Texts());
  object.Key("passing_labels", Need::kRequired, Texts());
  const json::value* labels = grader.if_contains("labels");
  const json::value* passing = grader.if_contains("passing_labels");
  if (labels == nullptr || !labels->is_array() || passing == nullptr || !passing->is_array())
    return;
  for (const json::value& label : passing->get_array()) {
    const auto& known = labels->get_array();
    if (label.is_string() && std::find(known.begin(), known.end(), label) == known.end()) {
      WrongValue(absl::StrCat(path, ".passing_labels"),
                 absl::StrCat("'", std::string(label.get_string()), "' is not one of the labels."));
    }
  }
}

void Checker::Parts(const json::value& value, const std::string& path, int depth) {
  if (!value.is_object()) return WrongType(value, path, "an object");
  if (value.get_object().empty()) WrongValue(path, "expected at least one grader.");
  for (const json::key_value_pair& member : value.get_object())
    Grader(member.value(), absl::StrCat(path, ".", std::string(member.key())), depth + 1);
}

void Checker::Grader(const json::value& value, const std::string& path, int depth) {
  if (!value.is_object()) return WrongType(value, path, "an object");
  if (depth > kMaxDepth) return WrongValue(path, "graders are nested too deeply.");
  const json::object& grader = value.get_object();
  Object object(*this, grader, path);
  const size_t before = mistakes.size();
  object.Key(
      "type", Need::kRequired,
      OneOf({"string_check", "text_similarity", "score_model", "label_model", "python", "multi"}));
  if (mistakes.size() != before) return;  // without it, nothing is known about the other keys
  const std::string type(grader.at("type").as_string());
  object.Key("name", Need::kOptional, Text());
  if (type == "string_check" || type == "text_similarity") {
    object.Key("input", Need::kRequired, Text());
    object.Key("reference", Need::kRequired, Text());
  }
  if (type == "string_check") {
    object.Key("operation", Need::kRequired, OneOf({"eq", "ne", "like", "ilike"}));
  } else if (type == "text_similarity") {
    object.Key("evaluation_metric", Need::kRequired,
               OneOf({"cosine", "fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2",
                      "rouge_3", "rouge_4", "rouge_5", "rouge_l"}));
    object.Key("pass_threshold", Need::kOptional, Number());
  } else if (type == "score_model") {
    ModelKeys(object);
    object.Key("range", Need::kOptional,
               [this](const json::value& v, const std::string& at) { Range(v, at); });
    object.Key("pass_threshold", Need::kOptional, Number());
  } else if (type == "label_model") {
    ModelKeys(object);
    LabelKeys(object, grader, path);
  } else if (type == "python") {
    object.Key("source", Need::kRequired, [this](const json::value& v, const std::string& at) {
      if (!v.is_string()) return WrongType(v, at, "a string");
      if (v.get_string().size() > kMaxSourceBytes)
        WrongValue(at, "the source is longer than 256 kB.");
    });
    object.Key("image_tag", Need::kOptional, Text());
  } else {
    object.Key("graders", Need::kRequired,
               [&](const json::value& v, const std::string& at) { Parts(v, at, depth); });
    object.Key("calculate_output", Need::kRequired, Text());
    object.Key("invalid_grade", Need::kOptional, Number());
  }
  object.Finish();
}

// Plain text content for every message.
json::array PlainMessages(const json::array& messages) {
  json::array plain;
  for (const json::value& message : messages) {
    const json::value& content = message.at("content");
    plain.push_back(json::object{{"role", message.at("role")},
                                 {"content", content.is_object() ? content.at("text") : content}});
  }
  return plain;
}

}  // namespace

std::vector<OpenAiMistake> CheckOpenAiGrader(const json::value& grader) {
  Checker checker;
  checker.Grader(grader, "grader", 0);
  return std::move(checker.mistakes);
}

json::object OpenAiErrorJson(const OpenAiMistake& mistake) {
  return {{"error", json::object{{"message", mistake.message},
                                 {"type", "invalid_request_error"},
                                 {"param", mistake.param},
                                 {"code", mistake.code}}}};
}

json::object FromOpenAiGrader(const json::object& grader) {
  json::object ours;
  for (const json::key_value_pair& member : grader) {
    const std::string key(member.key());
    const json::value& value = member.value();
    // A text_similarity's threshold decides what their evaluations count as passed, not the reward.
    if (key == "pass_threshold" && grader.at("type") == "text_similarity") continue;
    // `image_tag` names a container of theirs; `invalid_grade` a reward for failures, which here are never rewarded.
    if (key == "name" || key == "image_tag" || key == "invalid_grade" || value.is_null()) continue;
    if (key == "graders") {
      json::object parts;
      for (const json::key_value_pair& part : value.get_object())
        parts[part.key()] = FromOpenAiGrader(part.value().get_object());
      ours["graders"] = std::move(parts);
    } else if (key == "input" && value.is_array()) {
      ours["input"] = PlainMessages(value.get_array());
    } else {
      ours[key] = value;
    }
  }
  return ours;
}

}  // namespace rft
