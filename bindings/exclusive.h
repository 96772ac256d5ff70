// An object that belongs to one thread at a time, used from Python: calls run without the GIL, one after another whatever
// threads they come from, and a call from inside a call is an error instead of a deadlock.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "bindings/errors.h"

namespace rft::python {

template <typename T>
class Exclusive {
 public:
  // `reentered`: what the error says about a call from inside a call.
  Exclusive(std::unique_ptr<T> object, const char* reentered)
      : object_(std::move(object)), reentered_(reentered) {}
  // Without the GIL: the object may wait for threads of its own that need it.
  ~Exclusive() {
    py::gil_scoped_release release;
    object_.reset();
  }

  // body(object), and what it returns. Throws StatusException (kFailedPrecondition) from within a call of the same thread.
  // REQUIRES: the GIL is held.
  template <typename F>
  auto Call(F&& body) {
    if (owner_.load() == std::this_thread::get_id())
      throw StatusException(absl::FailedPreconditionError(reentered_));
    py::gil_scoped_release release;
    std::lock_guard<std::mutex> lock(mutex_);
    const Ownership ownership(owner_);
    return body(*object_);
  }

  // For members that may be used beside a running call.
  T& unguarded() { return *object_; }
  const T& unguarded() const { return *object_; }

 private:
  struct Ownership {
    explicit Ownership(std::atomic<std::thread::id>& owner) : owner(owner) {
      owner.store(std::this_thread::get_id());
    }
    ~Ownership() { owner.store(std::thread::id()); }
    std::atomic<std::thread::id>& owner;
  };

  std::unique_ptr<T> object_;
  const char* const reentered_;
  std::mutex mutex_;
  std::atomic<std::thread::id> owner_{};
};

}  // namespace rft::python
