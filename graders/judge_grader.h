// What a grader needs that asks a language model for verdicts (graders/llm_judge.cc): the generator, threads that wait for it,
// answers that are parsed strictly and asked for again, a cache.
//
//   model             name sent to the server; base_url and the other keys of graders/service_calls.h
//   generator         name given with SetTextGenerator (a model of our own), instead of model and base_url. Its replies are held to
//                     the JSON asked for (graders/reply_schema.h), where its codec compiles grammars
//   structured        json_schema | json_object | none: what the server is asked for, default json_schema
//   temperature       default 0; max_tokens: default 1024; seed: default 0
//   reasks            how often an answer of another form is asked for again, default 2
//   cache_size        answers kept, default 10000; used at temperature 0 only
// deadline_s is for all attempts together. GradeError: no answer, or none of the right form. Never a 0 for our failure.
// Thread safety: as AsyncGrader.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/thread_pool.hpp>
#include <boost/json/object.hpp>

#include "graders/async_grader.h"
#include "graders/chat_generator.h"
#include "graders/group_collector.h"
#include "graders/param_reader.h"
#include "rft/api/text_generator.h"

namespace rft {

struct JudgeOptions {
  std::string name;
  double deadline_s = 60.0;
  std::string generator;  // name; "": the server
  ServiceOptions service;
  std::string model;
  Structured structured = Structured::kJsonSchema;
  TextRequest sampling;  // without messages
  int reasks = 2;
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

  // One score per job, for those who use Collect. At least two jobs.
  virtual absl::StatusOr<std::vector<Score>> JudgeGroup(const std::vector<const GradeJob*>& jobs,
                                                        double until_s) const;

  // To be called once, before the first Collect (graders/group_collector.h).
  void CollectGroups(size_t group_size, double max_wait_s);
  // Holds the job until its group is there; then JudgeGroup answers all of them. One alone gets an Abstain.
  void Collect(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const;

  // Asks until `check` accepts the answer: one JSON object and nothing else (a fence around it aside).
  absl::StatusOr<boost::json::object> Ask(std::vector<Message> messages,
                                          const boost::json::value& json_schema, const Check& check,
                                          double until_s) const;
  static double Now();

 private:
  absl::StatusOr<std::shared_ptr<TextGenerator>> Generator() const;
  void FinishGroup(std::vector<GroupCollector::Member> members) const;
  Grade ToGrade(absl::StatusOr<Score> score) const;

  const JudgeOptions options_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<TextGenerator> generator_;
  mutable std::unique_ptr<boost::asio::thread_pool> threads_;
  mutable bool shut_down_ = false;
  std::unique_ptr<GroupCollector> collector_;
  // Most recently used first, and where each key is.
  mutable std::list<std::pair<std::string, boost::json::object>> cached_;
  mutable std::map<std::string, std::list<std::pair<std::string, boost::json::object>>::iterator>
      cache_;
};

}  // namespace rft
