#include "graders/judge_grader.h"

#include <chrono>
#include <cstdlib>
#include <utility>

#include <boost/asio/post.hpp>

#include "absl/strings/str_cat.h"
#include "graders/chat_generator.h"
#include "graders/sandbox/code_text.h"
#include "graders/text_generators.h"
#include "rft/core/rng.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

// The environment's value, or "".
std::string Environment(const std::string& name) {
  const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

void ReadSampling(ParamReader& params, TextRequest& sampling) {
  const absl::StatusOr<json::value> parsed = ParseJson(params.String("sampling_params", "{}"));
  if (!parsed.ok() || !parsed->is_object()) {
    return params.AddError("sampling_params", "must be a map, as {temperature: 0}");
  }
  for (const json::key_value_pair& member : parsed->get_object()) {
    const std::string key(member.key());
    const absl::StatusOr<double> number = ToDouble(member.value());
    if (member.value().is_null() || key == "reasoning_effort") continue;
    if (!number.ok() || *number < 0) {
      params.AddError("sampling_params", absl::StrCat(key, " must be a number, 0 or more"));
    } else if (key == "temperature") {
      sampling.temperature = *number;
    } else if (key == "top_p") {
      sampling.top_p = *number;
    } else if (key == "seed") {
      sampling.seed = static_cast<uint64_t>(*number);
    } else if (key == "max_tokens" || key == "max_completions_tokens" || key == "max_completion_tokens") {
      sampling.max_tokens = static_cast<int32_t>(std::min(*number, 1e6));
    } else {
      params.AddError("sampling_params", absl::StrCat("unknown key ", key));
    }
  }
}

// The whole text is one JSON object, or a fenced block is.
absl::StatusOr<json::object> ParseAnswer(const std::string& text) {
  absl::StatusOr<json::value> value = ParseJson(text);
  if (!value.ok()) value = ParseJson(ExtractCode(text, {"json"}));
  if (!value.ok() || !value->is_object()) return absl::DataLossError("the judge's answer is not a JSON object");
  return std::move(value->get_object());
}

}  // namespace

JudgeGrader::JudgeGrader(JudgeOptions options)
    : options_(std::move(options)),
      threads_(std::make_unique<boost::asio::thread_pool>(static_cast<size_t>(options_.concurrency))) {}

JudgeGrader::~JudgeGrader() { Shutdown(); }

double JudgeGrader::Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

JudgeOptions JudgeGrader::ReadOptions(ParamReader& params, const GraderSpec& spec) {
  JudgeOptions options;
  options.name = spec.name.empty() ? spec.type : spec.name;
  options.deadline_s = spec.deadline_s;
  options.generator = params.String("generator", "");
  options.model = params.String("model", "");
  options.base_url = params.String("base_url", "");
  options.api_key = Environment(params.String("api_key_env", "OPENAI_API_KEY"));
  options.structured = params.Choice("structured", {"json_schema", "json_object", "none"}, "json_schema");
  options.attempts = static_cast<int>(params.Int("attempts", 3, 1, 100));
  options.concurrency = static_cast<int>(params.Int("concurrency", 8, 1, 1024));
  options.cache_size = static_cast<int>(params.Int("cache_size", 10'000, 0, 1 << 24));
  ReadSampling(params, options.sampling);
  if (options.generator.empty() && options.model.empty()) params.AddError("model", "required (or generator)");
  if (!options.generator.empty() && !options.base_url.empty()) {
    params.AddError("generator", "give either base_url or generator, not both");
  }
  return options;
}

absl::StatusOr<std::shared_ptr<TextGenerator>> JudgeGrader::Generator() const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (generator_ != nullptr) return generator_;
  if (!options_.generator.empty()) {
    generator_ = FindTextGenerator(options_.generator);
    if (generator_ != nullptr) return generator_;
    return absl::FailedPreconditionError(absl::StrCat("graders[", options_.name, "].generator: nothing is called \"",
                                                      options_.generator, "\" (SetTextGenerator)"));
  }
  const std::string url = options_.base_url.empty() ? Environment("OPENAI_BASE_URL") : options_.base_url;
  if (url.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "graders[", options_.name, "].base_url: no server; set it, or OPENAI_BASE_URL, to an OpenAI-compatible one"));
  }
  generator_ = std::make_shared<ChatGenerator>(
      ChatGeneratorOptions{url, options_.model, options_.api_key, options_.structured});
  return generator_;
}

absl::Status JudgeGrader::Prepare() const { return Generator().status(); }

void JudgeGrader::Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!shut_down_) {
      boost::asio::post(*threads_, [this, job = std::move(job), done = std::move(done)] {
        {
          std::lock_guard<std::mutex> inner(mutex_);
          if (shut_down_) return done(GradeError{"shut down"});
        }
        absl::StatusOr<Score> score = Judge(*job, Now() + options_.deadline_s);
        if (score.ok()) return done(*std::move(score));
        if (absl::IsDeadlineExceeded(score.status())) return done(Timeout{options_.deadline_s});
        done(GradeError{std::string(score.status().message())});
      });
      return;
    }
  }
  done(GradeError{"shut down"});
}

void JudgeGrader::Shutdown() const {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (shut_down_) return;
    shut_down_ = true;
  }
  threads_->join();  // what has not begun answers at once
}

absl::StatusOr<json::object> JudgeGrader::Ask(std::vector<Message> messages, const std::string& json_schema,
                                              const Check& check, double until_s) const {
  RFT_ASSIGN_OR_RETURN(const std::shared_ptr<TextGenerator> generator, Generator());
  TextRequest request = options_.sampling;
  request.messages = std::move(messages);
  request.json_schema = json_schema;
  const bool cacheable = request.temperature == 0 && options_.cache_size > 0;
  std::string key;
  for (const Message& message : request.messages) {
    absl::StrAppend(&key, message.role.size(), ":", message.role, message.content.size(), ":", message.content);
  }
  if (cacheable) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (auto it = cache_.find(key); it != cache_.end()) {
      cached_.splice(cached_.begin(), cached_, it->second);
      return it->second->second;
    }
  }
  absl::Status last = absl::DeadlineExceededError("no time left");
  for (int attempt = 0; attempt < options_.attempts; ++attempt) {
    request.deadline_s = until_s - Now();
    if (request.deadline_s <= 0) return absl::DeadlineExceededError(last.message());
    absl::StatusOr<GeneratedText> generated = generator->Generate(request);
    if (!generated.ok()) return generated.status();  // the generator has tried what there was to try
    absl::StatusOr<json::object> answer = ParseAnswer(generated->text);
    last = answer.ok() ? check(*answer) : answer.status();
    if (last.ok()) {
      if (!cacheable) return answer;
      std::lock_guard<std::mutex> lock(mutex_);
      if (cache_.count(key) == 0) {
        cached_.emplace_front(key, *answer);
        cache_[key] = cached_.begin();
        if (cached_.size() > static_cast<size_t>(options_.cache_size)) {
          cache_.erase(cached_.back().first);
          cached_.pop_back();
        }
      }
      return answer;
    }
    last = absl::DataLossError(absl::StrCat(last.message(), ": ", generated->text.substr(0, 200)));
    // The same question at temperature 0 has the same answer: ask with the mistake named.
    request.seed += 1;
    if (attempt == 0) {
      request.messages.back().content +=
          "\n\nReply with one JSON object of the form asked for, and nothing else.";
    }
  }
  return absl::DataLossError(absl::StrCat("after ", options_.attempts, " attempts: ", last.message()));
}

absl::StatusOr<std::vector<Message>> MessageTemplates::Render(const GradeInput& input) const {
  std::vector<Message> rendered;
  for (const auto& [role, content] : messages) {
    RFT_ASSIGN_OR_RETURN(std::string text, content.Render(input));
    rendered.push_back({role, std::move(text)});
  }
  return rendered;
}

MessageTemplates ReadMessages(ParamReader& params, std::string_view key) {
  MessageTemplates templates;
  const absl::StatusOr<json::value> parsed = ParseJson(params.Required(key));
  if (!parsed.ok() || !parsed->is_array() || parsed->get_array().empty()) {
    params.AddError(key, "must be a list of messages, as [{role: user, content: ...}]");
    return templates;
  }
  for (const json::value& message : parsed->get_array()) {
    const json::object* object = message.if_object();
    const absl::StatusOr<std::string> role =
        object == nullptr ? absl::InvalidArgumentError("") : GetString(*object, "role");
    const absl::StatusOr<std::string> content =
        object == nullptr ? absl::InvalidArgumentError("") : GetString(*object, "content");
    if (!role.ok() || !content.ok()) {
      params.AddError(key, "a message is not {role: ..., content: ...}");
      continue;
    }
    absl::StatusOr<Template> parsed_content = Template::Parse(*content);
    if (!parsed_content.ok()) {
      params.AddError(key, parsed_content.status().message());
      continue;
    }
    templates.messages.emplace_back(*role, *std::move(parsed_content));
  }
  return templates;
}

}  // namespace rft
