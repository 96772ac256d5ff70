// A grader that asks a language model (score_model, label_model, pairwise_model). What they share: the generator, threads that
// wait for it, strictly parsed answers with further attempts, a cache.
//
//   model             name sent to the server
//   base_url          of an OpenAI-compatible server, default $OPENAI_BASE_URL
//   api_key_env       environment variable with the key, default OPENAI_API_KEY; need not be set
//   generator         name given with SetTextGenerator, instead of base_url
//   structured        json_schema | json_object | none: what the server is asked for, default json_schema
//   sampling_params   JSON: temperature (default 0), top_p, max_tokens (or max_completions_tokens), seed
//   attempts          at an answer of the right form, default 3
//   concurrency       questions at once, default 8
//   cache_size        answers kept, default 10000; used at temperature 0 only
// deadline_s is for all attempts together. GradeError: no answer, or none of the right form. Never a 0 for our failure.
// Thread safety: as AsyncGrader.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <boost/asio/thread_pool.hpp>
#include <boost/json/object.hpp>

#include "graders/async_grader.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "rft/api/text_generator.h"

namespace rft {

struct JudgeOptions {
  std::string name;
  double deadline_s = 60.0;
  std::string generator;  // name; "": the server
  std::string base_url, model, api_key, structured;
  TextRequest sampling;  // without messages
  int attempts = 3;
  int concurrency = 8;
  int cache_size = 10'000;
};

class JudgeGrader : public AsyncGrader {
 public:
  explicit JudgeGrader(JudgeOptions options);
  ~JudgeGrader() override;  // derived classes call Shutdown in theirs

  absl::Status Prepare() const override;
  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override;
  void Shutdown() const override;

  // Reads the keys above.
  static JudgeOptions ReadOptions(ParamReader& params, const GraderSpec& spec);

 protected:
  // OK, or what is wrong with an answer's fields.
  using Check = std::function<absl::Status(const boost::json::object& answer)>;

  // `until_s`: when the grade must be there, on the clock of Now().
  virtual absl::StatusOr<Score> Judge(const GradeJob& job, double until_s) const = 0;

  // Asks until `check` accepts the answer: one JSON object and nothing else (a fence around it aside).
  absl::StatusOr<boost::json::object> Ask(std::vector<Message> messages, const std::string& json_schema, const Check& check,
                                          double until_s) const;
  static double Now();

 private:
  absl::StatusOr<std::shared_ptr<TextGenerator>> Generator() const;

  const JudgeOptions options_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<TextGenerator> generator_;
  mutable std::unique_ptr<boost::asio::thread_pool> threads_;
  mutable bool shut_down_ = false;
  // Most recently used first, and where each key is.
  mutable std::list<std::pair<std::string, boost::json::object>> cached_;
  mutable std::map<std::string, std::list<std::pair<std::string, boost::json::object>>::iterator> cache_;
};

// The messages of a grader's `input` key: a list of {"role", "content"}, content a template.
struct MessageTemplates {
  std::vector<std::pair<std::string, Template>> messages;
  absl::StatusOr<std::vector<Message>> Render(const GradeInput& input) const;
};
MessageTemplates ReadMessages(ParamReader& params, std::string_view key);

}  // namespace rft
