#include "graders/async_grader.h"

#include <future>

namespace rft {

std::shared_ptr<const GradeJob> GradeJob::From(std::shared_ptr<const Row> row,
                                               const Rollout& rollout, int32_t group_size) {
  auto job = std::make_shared<GradeJob>();
  job->row = std::move(row);
  job->completion = rollout.completion_text;
  job->finish_reason = rollout.finish_reason;
  job->step = rollout.step;
  job->group = rollout.group;
  job->group_size = group_size;
  job->token_ids.reserve(static_cast<size_t>(rollout.NumCompletionTokens()));
  for (const Segment& segment : rollout.segments) {
    if (segment.kind != SegmentKind::kModel) continue;
    job->token_ids.insert(job->token_ids.end(), segment.ids.begin(), segment.ids.end());
  }
  return job;
}

Grade AsyncGrader::Run(const GradeInput& input) const {
  auto job = std::make_shared<GradeJob>();
  job->row = std::make_shared<const Row>(input.row);
  job->completion = std::string(input.completion);
  job->token_ids.assign(input.token_ids.begin(), input.token_ids.end());
  job->finish_reason = input.finish_reason;
  auto promise = std::make_shared<std::promise<Grade>>();
  std::future<Grade> answer = promise->get_future();
  Start(std::move(job), [promise](Grade grade) { promise->set_value(std::move(grade)); });
  return answer.get();
}

}  // namespace rft
