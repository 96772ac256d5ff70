// Events from other threads for one thread that waits for them. The queue is held by a shared_ptr on both sides, so that
// a producer which is late (a cancelled request, a slow grader) outlives the consumer's interest without harm.
//
// Thread safety: Push, Touch and Interrupt from any thread; Pop from one.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace rft {

template <typename Event>
class EventQueue {
 public:
  void Push(Event event) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      events_.push_back(std::move(event));
    }
    changed_.notify_one();
  }

  // Something is still moving although there is no event (a token was sampled): Pop's silence starts anew.
  void Touch() { num_touches_.fetch_add(1, std::memory_order_relaxed); }

  // Pop returns nullopt from now on, at once. Cannot be undone.
  void Interrupt() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      interrupted_ = true;
    }
    changed_.notify_all();
  }

  bool interrupted() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return interrupted_;
  }

  // The next event; nullopt after Interrupt, or when neither Push nor Touch was called for `silence_s` seconds.
  std::optional<Event> Pop(double silence_s) { return PopUnless(silence_s, true); }

  // As Pop, but Interrupt does not end it: for draining.
  std::optional<Event> Drain(double silence_s) { return PopUnless(silence_s, false); }

 private:
  std::optional<Event> PopUnless(double silence_s, bool heed_interrupt) {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto ready = [&] { return !events_.empty() || (heed_interrupt && interrupted_); };
    int64_t touches = num_touches_.load(std::memory_order_relaxed);
    while (!changed_.wait_for(lock, std::chrono::duration<double>(silence_s), ready)) {
      const int64_t now = num_touches_.load(std::memory_order_relaxed);
      if (now == touches) return std::nullopt;
      touches = now;
    }
    if (heed_interrupt && interrupted_) return std::nullopt;
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  bool interrupted_ = false;
  std::atomic<int64_t> num_touches_{0};
};

}  // namespace rft
