// http: a grader behind a URL. It gets completions in batches as JSON and returns a grade for each.
//
//   url                 where to POST; other keys of the service: graders/service_calls.h
//   batch_size          completions per request at most, default 16; what waits is sent as soon as a request may start
//
//   request    {"grader": NAME, "items": [{"row": {...}, "completion": "...", "finish_reason": "stop", "token_ids": [...]}]}
//   reply      {"grades": [...]}, one per item in their order, each as in graders/grade_json.h
//
// The grader's deadline is that of a request with all its attempts; they carry one Idempotency-Key. A request that is refused
// (400, 413, 422) is taken apart, so that one bad row does not cost the others their grade. Redirects are not followed.

#include <deque>
#include <memory>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "graders/async_grader.h"
#include "graders/grade_json.h"
#include "graders/param_reader.h"
#include "graders/service_calls.h"
#include "graders/worker_messages.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

constexpr size_t kMaxBatchBytes = size_t{8} << 20;

std::string ItemJson(const GradeJob& job) {
  std::string out = absl::StrCat(
      "{\"row\":", RowText(*job.row), ",\"completion\":", JsonQuote(job.completion),
      ",\"finish_reason\":\"", FinishReasonName(job.finish_reason), "\",\"token_ids\":[");
  for (size_t i = 0; i < job.token_ids.size(); ++i)
    absl::StrAppend(&out, i == 0 ? "" : ",", job.token_ids[i]);
  return out + "]}";
}

class HttpGrader : public AsyncGrader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    ServiceOptions service = ReadServiceOptions(params, "url");
    const auto batch_size = static_cast<size_t>(params.Int("batch_size", 16, 1, 4096));
    RFT_RETURN_IF_ERROR(params.Finish());
    return std::make_unique<HttpGrader>(spec, std::move(service), batch_size);
  }

  HttpGrader(const GraderSpec& spec, ServiceOptions service, size_t batch_size)
      : name_(spec.name.empty() ? spec.type : spec.name),
        deadline_s_(spec.deadline_s),
        service_(std::move(service)),
        batch_size_(batch_size),
        calls_(service_.max_concurrent) {}

  absl::Status Prepare() const override { return absl::OkStatus(); }

  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      queue_.push_back({ItemJson(*job), std::move(done)});
    }
    SendBatches();
  }

  void Shutdown() const override {
    calls_.Shutdown();
    SendBatches();  // what still waits is answered
  }

 private:
  struct Item {
    std::string json;
    std::function<void(Grade)> done;
  };
  using Items = std::vector<Item>;

  Items TakeBatch() const {
    std::lock_guard<std::mutex> lock(mutex_);
    Items items;
    size_t bytes = 0;
    while (!queue_.empty() && items.size() < batch_size_ &&
           (items.empty() || bytes + queue_.front().json.size() <= kMaxBatchBytes)) {
      bytes += queue_.front().json.size();
      items.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    return items;
  }

  void SendBatches() const {
    while (calls_.NumFree() > 0) {
      Items items = TakeBatch();
      if (items.empty()) return;
      Post(std::move(items));
    }
  }

  void Post(Items items) const {
    std::string body = absl::StrCat("{\"grader\":", JsonQuote(name_), ",\"items\":[");
    for (size_t i = 0; i < items.size(); ++i)
      absl::StrAppend(&body, i == 0 ? "" : ",", items[i].json);
    body += "]}";
    auto shared = std::make_shared<Items>(std::move(items));
    calls_.Send(service_.Request(std::move(body), deadline_s_, NewIdempotencyKey()),
                [this, shared](absl::StatusOr<HttpResponse> response) {
                  Answer(*shared, std::move(response));
                  SendBatches();
                });
  }

  void Answer(Items& items, absl::StatusOr<HttpResponse> response) const {
    const absl::Status status = response.ok() ? HttpStatus(*response) : response.status();
    if (!status.ok()) {
      const bool refused = response.ok() && (response->status == 400 || response->status == 413 ||
                                             response->status == 422);
      for (Item& item : items) {
        if (refused && items.size() > 1) {
          Post(MakeItems(std::move(item)));
        } else {
          item.done(GradeOfFailure(status, deadline_s_));
        }
      }
      return;
    }
    const absl::StatusOr<json::value> body = ParseJson(response->body);
    const json::value* grades =
        body.ok() && body->is_object() ? body->get_object().if_contains("grades") : nullptr;
    if (grades == nullptr || !grades->is_array() || grades->get_array().size() != items.size()) {
      const std::string what = absl::StrCat(
          service_.url, ": the reply has no list \"grades\" of ", items.size(),
          " grades: ", ReplaceInvalidUtf8(std::string_view(response->body).substr(0, 200)));
      for (Item& item : items) item.done(GradeError{what});
      return;
    }
    for (size_t i = 0; i < items.size(); ++i) {
      std::optional<Grade> grade = GradeFromJson(grades->get_array()[i]);
      items[i].done(grade.has_value()
                        ? *std::move(grade)
                        : GradeError{absl::StrCat(service_.url, ": not a grade: ",
                                                  ToJson(grades->get_array()[i]).substr(0, 200))});
    }
  }

  static Items MakeItems(Item item) {
    Items items;
    items.push_back(std::move(item));
    return items;
  }

  const std::string name_;
  const double deadline_s_;
  const ServiceOptions service_;
  const size_t batch_size_;
  mutable std::mutex mutex_;
  mutable std::deque<Item> queue_;
  mutable ServiceCalls calls_;  // last: its callbacks use the others
};

}  // namespace

RFT_REGISTER_GRADER("http", HttpGrader);

}  // namespace rft
