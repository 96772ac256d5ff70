// What texts were read as, for those that come again: what a row expects is looked at once per completion of its group. Holds some
// texts with their values; one that comes to another's place takes it. Meant to be thread_local in a function:
//
//   thread_local Remembered<Items> memory;
//   const Items& items = memory.Of(text, /*how=*/0, [](std::string_view text, Items* items) { ... });
//
// Not thread-safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "graders/numbering.h"

namespace rft {

// Another one each time: `how` a grader reads, where that depends on its parameters.
inline uint64_t NewReadingId() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

template <typename Value, size_t kPlaces = 64, size_t kMaxBytes = 4096>
class Remembered {
 public:
  // Lives until the next call. read(text, &value) makes it where this text was not the last one at its place, or was read in another
  // way (`how`); `value` may hold what it held before. The text that `read` gets lives as long as the value, or as `text` where that
  // is longer than kMaxBytes, which is read each time.
  template <typename Read>
  const Value& Of(std::string_view text, uint64_t how, Read read) {
    if (text.size() > kMaxBytes) {
      read(text, &long_);
      return long_;
    }
    std::unique_ptr<Place>& place = places_[PlaceOf(text)];
    if (place == nullptr) {
      place = std::make_unique<Place>();
    } else if (place->is_read && place->how == how && place->text == text) {
      return place->value;
    }
    place->is_read = false;
    place->text = text;
    place->how = how;
    read(std::string_view(place->text), &place->value);
    place->is_read = true;
    return place->value;
  }

 private:
  struct Place {
    bool is_read = false;
    uint64_t how = 0;
    std::string text;
    Value value;
  };

  // Few of its bytes tell the texts of a data set apart well enough.
  static size_t PlaceOf(std::string_view text) {
    using numbering_internal::Load;
    uint64_t hash = text.size();
    if (text.size() >= 8) {
      for (const size_t at : {size_t{0}, text.size() / 4, text.size() / 2, text.size() - 8})
        hash = numbering_internal::Mix(
            hash ^ Load<uint64_t>(text.data() + std::min(at, text.size() - 8)),
            0x9E3779B97F4A7C15u);
    }
    return hash % kPlaces;
  }

  std::unique_ptr<Place> places_[kPlaces];
  Value long_;
};

}  // namespace rft
