#include "rft/serve/counting_exchange.h"

#include <atomic>
#include <utility>

namespace rft::serve {
namespace {

class CountingExchange : public Exchange {
 public:
  CountingExchange(std::shared_ptr<Exchange> inner, std::shared_ptr<Metrics> metrics,
                   std::string path)
      : inner_(std::move(inner)), metrics_(std::move(metrics)), path_(std::move(path)) {}
  void Reply(HttpReply reply) override {
    Count(reply.status);
    inner_->Reply(std::move(reply));
  }
  void BeginEvents() override {
    Count(200);
    inner_->BeginEvents();
  }
  void WriteEvents(std::string text) override { inner_->WriteEvents(std::move(text)); }
  void EndEvents() override { inner_->EndEvents(); }
  void OnGone(std::function<void()> callback) override { inner_->OnGone(std::move(callback)); }
  void Post(std::function<void()> work) override { inner_->Post(std::move(work)); }

 private:
  void Count(int status) {
    if (!counted_.exchange(true)) metrics_->CountRequest(path_, status);
  }

  const std::shared_ptr<Exchange> inner_;
  const std::shared_ptr<Metrics> metrics_;
  const std::string path_;
  std::atomic<bool> counted_{false};
};

}  // namespace

std::shared_ptr<Exchange> CountAnswers(std::shared_ptr<Exchange> inner,
                                       std::shared_ptr<Metrics> metrics, std::string path) {
  return std::make_shared<CountingExchange>(std::move(inner), std::move(metrics), std::move(path));
}

}  // namespace rft::serve
