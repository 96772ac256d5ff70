#include "rft/tensor/thread_pool.h"

#include <chrono>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rft {
namespace {

thread_local bool t_inside = false;  // this thread is computing a piece

// How long an idle thread looks for the next loop before it sleeps: longer than the gaps between the operators of a decode
// iteration, short enough not to burn a core when the engine waits for work.
constexpr auto kSpin = std::chrono::microseconds(150);

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Spins until `ready()` or the time is over; true if ready.
template <typename Ready>
bool SpinUntil(const Ready& ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

uint32_t LoopOf(uint64_t state) { return static_cast<uint32_t>(state >> 32); }

}  // namespace

ThreadPool& ThreadPool::Shared() {
  static ThreadPool* const pool = new ThreadPool;
  return *pool;
}

bool ThreadPool::InsidePiece() { return t_inside; }

ThreadPool::~ThreadPool() {
  stopping_ = true;
  {
    std::lock_guard lock(sleep_mutex_);
    wake_.notify_all();
  }
  for (std::thread& t : workers_) t.join();
}

void ThreadPool::StartWorkers(int count) {
  while (static_cast<int>(workers_.size()) < count)
    workers_.emplace_back([this, index = static_cast<int>(workers_.size())] { Work(index); });
}

void ThreadPool::Run(int threads, int64_t pieces, const std::function<void(int64_t)>& body) {
  std::unique_lock lock(run_mutex_, std::defer_lock);
  if (threads <= 1 || pieces <= 1 || pieces > std::numeric_limits<int32_t>::max() || t_inside ||
      !lock.try_lock()) {
    const bool outer = t_inside;
    t_inside = true;
    for (int64_t i = 0; i < pieces; ++i) body(i);
    t_inside = outer;
    return;
  }
  StartWorkers(threads - 1);
  // Closed under a number of its own while the fields change, so that a late thread can't take the last loop's number for
  // a claim on this one's pieces.
  const uint32_t loop = LoopOf(next_.load()) + 2;
  next_.store((static_cast<uint64_t>(loop - 1) << 32) | std::numeric_limits<uint32_t>::max());
  body_.store(&body);
  pieces_.store(static_cast<uint32_t>(pieces));
  helpers_.store(threads - 1);
  done_.store(0);
  next_.store(static_cast<uint64_t>(loop) << 32);
  if (sleeping_.load() > 0) {
    std::lock_guard sleep(sleep_mutex_);
    wake_.notify_all();
  }
  Help(loop);
  // What is left is being computed by others at this moment.
  while (!SpinUntil([&] { return done_.load() == static_cast<uint32_t>(pieces); }))
    std::this_thread::yield();
}

void ThreadPool::Help(uint32_t loop) {
  const auto* body = body_.load();
  const uint32_t pieces = pieces_.load();
  t_inside = true;
  uint64_t state = next_.load();
  while (LoopOf(state) == loop && static_cast<uint32_t>(state) < pieces) {
    // Success proves that `body` and `pieces` are this loop's: the caller can't start another before this piece is done.
    if (!next_.compare_exchange_weak(state, state + 1)) continue;
    (*body)(static_cast<int64_t>(static_cast<uint32_t>(state)));
    done_.fetch_add(1);
    state = next_.load();
  }
  t_inside = false;
}

void ThreadPool::Work(int index) {
  uint32_t seen = 0;
  auto ready = [&] { return LoopOf(next_.load()) != seen || stopping_.load(); };
  while (true) {
    if (!SpinUntil(ready)) {
      std::unique_lock lock(sleep_mutex_);
      ++sleeping_;
      wake_.wait(lock, ready);
      --sleeping_;
    }
    if (stopping_.load()) return;
    seen = LoopOf(next_.load());
    if (index < helpers_.load()) Help(seen);
  }
}

}  // namespace rft
