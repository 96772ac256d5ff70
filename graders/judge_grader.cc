#include "graders/judge_grader.h"

#include <chrono>
#include <cstdlib>
#include <utility>

#include <boost/asio/post.hpp>

#include "absl/strings/str_cat.h"
#include "graders/reply_schema.h"
#include "graders/sandbox/code_text.h"
#include "graders/text_generators.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

// The environment's value, or "".
std::string Environment(const std::string& name) {
  const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

// Control characters, which models write into strings as they are, as blanks.
std::string WithoutControls(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text;
}

// The whole text is one JSON object, or a fenced block is.
absl::StatusOr<json::object> ParseAnswer(const std::string& text) {
  absl::StatusOr<json::value> value = ParseJson(WithoutControls(text));
  if (!value.ok()) value = ParseJson(WithoutControls(ExtractCode(text, {"json"})));
  if (!value.ok() || !value->is_object())
    return absl::DataLossError("the judge's answer is not a JSON object");
  return std::move(value->get_object());
}

}  // namespace

JudgeGrader::JudgeGrader(JudgeOptions options)
    : options_(std::move(options)),
      threads_(std::make_unique<boost::asio::thread_pool>(
          static_cast<size_t>(options_.service.max_concurrent))) {}

JudgeGrader::~JudgeGrader() { Shutdown(); }

double JudgeGrader::Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

JudgeOptions JudgeGrader::ReadOptions(ParamReader& params, const GraderSpec& spec) {
  JudgeOptions options;
  options.name = spec.name.empty() ? spec.type : spec.name;
  options.deadline_s = spec.deadline_s;
  options.generator = params.String("generator", "");
  if (options.generator.empty()) {
    options.model = params.Required("model");
    options.service =
        ReadServiceOptions(params, "base_url", Environment("OPENAI_BASE_URL"), "OPENAI_API_KEY");
    const std::string structured =
        params.Choice("structured", {"json_schema", "json_object", "none"}, "json_schema");
    options.structured = structured == "json_schema"   ? Structured::kJsonSchema
                         : structured == "json_object" ? Structured::kJsonObject
                                                       : Structured::kNone;
  } else {
    options.service.max_concurrent = static_cast<int>(params.Int("max_concurrent", 8, 1, 1024));
  }
  options.sampling.temperature = params.Double("temperature", 0.0, 0.0);
  options.sampling.max_tokens = static_cast<int32_t>(params.Int("max_tokens", 1024, 1, 1 << 20));
  options.sampling.seed = static_cast<uint64_t>(params.Int("seed", 0, 0, int64_t{1} << 62));
  options.reasks = static_cast<int>(params.Int("reasks", 2, 0, 100));
  options.cache_size = static_cast<int>(params.Int("cache_size", 10'000, 0, 1 << 24));
  return options;
}

absl::StatusOr<std::shared_ptr<TextGenerator>> JudgeGrader::Generator() const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (generator_ != nullptr) return generator_;
  if (!options_.generator.empty()) {
    generator_ = FindTextGenerator(options_.generator);
    if (generator_ != nullptr) return generator_;
    return absl::FailedPreconditionError(absl::StrCat("graders[", options_.name,
                                                      "].generator: nothing is called \"",
                                                      options_.generator, "\" (SetTextGenerator)"));
  }
  generator_ =
      std::make_shared<ChatGenerator>(options_.service, options_.model, options_.structured);
  return generator_;
}

absl::Status JudgeGrader::Prepare() const {
  return options_.generator == kPolicyGenerator ? absl::OkStatus() : Generator().status();
}

void JudgeGrader::Start(std::shared_ptr<const GradeJob> job,
                        std::function<void(Grade)> done) const {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!shut_down_) {
      boost::asio::post(*threads_, [this, job = std::move(job), done = std::move(done)] {
        {
          std::lock_guard<std::mutex> inner(mutex_);
          if (shut_down_) return done(GradeError{"shut down"});
        }
        done(ToGrade(Judge(*job, Now() + options_.deadline_s)));
      });
      return;
    }
  }
  done(GradeError{"shut down"});
}

Grade JudgeGrader::ToGrade(absl::StatusOr<Score> score) const {
  if (score.ok()) return *std::move(score);
  if (absl::IsDeadlineExceeded(score.status())) return Timeout{options_.deadline_s};
  return GradeError{std::string(score.status().message())};
}

absl::StatusOr<std::vector<Score>> JudgeGrader::JudgeGroup(const std::vector<const GradeJob*>&,
                                                           double) const {
  return absl::UnimplementedError("this judge does not compare groups");
}

void JudgeGrader::CollectGroups(size_t group_size, double max_wait_s) {
  collector_ = std::make_unique<GroupCollector>(
      group_size, max_wait_s, [this](std::vector<GroupCollector::Member> members) {
        auto shared = std::make_shared<std::vector<GroupCollector::Member>>(std::move(members));
        {
          std::lock_guard<std::mutex> lock(mutex_);
          if (!shut_down_) {
            boost::asio::post(*threads_, [this, shared] { FinishGroup(std::move(*shared)); });
            return;
          }
        }
        FinishGroup(std::move(*shared));
      });
}

void JudgeGrader::Collect(std::shared_ptr<const GradeJob> job,
                          std::function<void(Grade)> done) const {
  collector_->Add(std::move(job), std::move(done));
}

void JudgeGrader::FinishGroup(std::vector<GroupCollector::Member> members) const {
  bool shut_down;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    shut_down = shut_down_;
  }
  if (shut_down || members.size() == 1) {
    for (auto& [job, done] : members) {
      done(shut_down ? Grade(GradeError{"shut down"}) : Grade(Abstain{"alone in its group"}));
    }
    return;
  }
  std::vector<const GradeJob*> jobs;
  for (const auto& [job, done] : members) jobs.push_back(job.get());
  const absl::StatusOr<std::vector<Score>> scores = JudgeGroup(jobs, Now() + options_.deadline_s);
  for (size_t i = 0; i < members.size(); ++i) {
    members[i].second(scores.ok() ? Grade((*scores)[i]) : ToGrade(scores.status()));
  }
}

void JudgeGrader::Shutdown() const {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (shut_down_) return;
    shut_down_ = true;
  }
  if (collector_ != nullptr) collector_->Shutdown();
  threads_->join();  // what has not begun answers at once
}

absl::StatusOr<json::object> JudgeGrader::Ask(std::vector<Message> messages,
                                              const json::value& json_schema, const Check& check,
                                              double until_s) const {
  RFT_ASSIGN_OR_RETURN(const std::shared_ptr<TextGenerator> generator, Generator());
  TextRequest request = options_.sampling;
  request.messages = std::move(messages);
  request.json_schema = options_.generator.empty()
                            ? ToJson(json_schema)
                            : ToJson(BoundedSchema(json_schema, request.max_tokens));
  const bool cacheable = request.temperature == 0 && options_.cache_size > 0;
  std::string key;
  for (const Message& message : request.messages) {
    absl::StrAppend(&key, message.role.size(), ":", message.role, message.content.size(), ":",
                    message.content);
  }
  if (cacheable) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (auto it = cache_.find(key); it != cache_.end()) {
      cached_.splice(cached_.begin(), cached_, it->second);
      return it->second->second;
    }
  }
  absl::Status last = absl::DeadlineExceededError("no time left");
  for (int attempt = 0; attempt <= options_.reasks; ++attempt) {
    request.deadline_s = until_s - Now();
    if (request.deadline_s <= 0) return absl::DeadlineExceededError(last.message());
    absl::StatusOr<GeneratedText> generated = generator->Generate(request);
    if (!generated.ok())
      return generated.status();  // the generator has tried what there was to try
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
    ++request.seed;
    if (attempt == 0) {
      request.messages.back().content +=
          "\n\nReply with one JSON object of the form asked for, and nothing else.";
    }
  }
  return absl::DataLossError(
      absl::StrCat("after ", options_.reasks + 1, " attempts: ", last.message()));
}

}  // namespace rft
