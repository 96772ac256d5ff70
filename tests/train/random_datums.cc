#include "tests/train/random_datums.h"

#include "tests/models/tiny_model.h"

namespace rft::testing {

std::vector<Datum> RandomDatums(int groups, uint64_t seed) {
  std::vector<Datum> datums;
  uint64_t n = 0;
  auto random = [&](int64_t low, int64_t high) { return RandomInt(low, high, seed, ++n); };
  for (int g = 0; g < groups; ++g) {
    const std::vector<TokenId> prompt = RandomIds(random(2, 40), seed * 1000 + g);
    const int64_t answers = random(1, 5);
    for (int64_t a = 0; a < answers; ++a) {
      Datum d;
      d.ids = prompt;
      for (TokenId id : RandomIds(random(1, 30), seed * 1000 + 500 + 10 * g + a))
        d.ids.push_back(id);
      d.weights.assign(prompt.size(), 0.0f);
      for (size_t t = prompt.size(); t < d.ids.size(); ++t)
        d.weights.push_back(random(0, 4) > 0 ? 1.0f : 0.0f);
      d.weights[prompt.size()] = 1.0f;
      d.advantages.assign(d.ids.size(), static_cast<float>(RandomIn(-1.0, 1.0, seed, ++n)));
      d.prefix_id = g % 2 == 0 ? g : -1;
      d.prefix_length = g % 2 == 0 ? static_cast<int32_t>(prompt.size()) : 0;
      datums.push_back(std::move(d));
    }
  }
  return datums;
}

Datum LongRow(int64_t length) {
  Datum datum;
  datum.ids = RandomIds(length, 3);
  datum.weights.assign(length, 1.0f);
  datum.weights[0] = 0.0f;
  datum.advantages.assign(length, 1.0f);
  return datum;
}

std::vector<Datum> WithoutPrefixes(std::vector<Datum> datums) {
  for (Datum& d : datums) {
    d.prefix_id = -1;
    d.prefix_length = 0;
  }
  return datums;
}

}  // namespace rft::testing
