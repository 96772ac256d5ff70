// Turns an exception thrown by tensor code into a Status: the one place where torch's errors become ours.
// Out of memory becomes kResourceExhausted; everything else kInvalidArgument (tensor code checks its inputs).
#pragma once

#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>

#include <c10/util/Exception.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rft {

inline absl::Status StatusFromTorch(const c10::Error& error) {
  const std::string what = error.what_without_backtrace();
  const bool memory = dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
                      what.find("not enough memory") != std::string::npos ||
                      what.find("can't allocate memory") != std::string::npos;
  return memory ? absl::ResourceExhaustedError(what) : absl::InvalidArgumentError(what);
}

// TryTorch([&]() -> T { ... })  gives StatusOr<T>, and Status for a function that returns void.
template <typename F>
auto TryTorch(F&& body) {
  using R = std::invoke_result_t<F>;
  using Wrapped = std::conditional_t<std::is_void_v<R>, absl::Status, absl::StatusOr<R>>;
  try {
    if constexpr (std::is_void_v<R>) {
      body();
      return absl::OkStatus();
    } else {
      return Wrapped(body());
    }
  } catch (const c10::Error& error) {
    return Wrapped(StatusFromTorch(error));
  } catch (const std::bad_alloc&) {
    return Wrapped(absl::ResourceExhaustedError("out of memory"));
  } catch (const std::exception& error) {
    return Wrapped(absl::InternalError(error.what()));
  }
}

}  // namespace rft
