#include "rft/core/rng.h"

namespace rft {
namespace {

// Mixes a 64-bit value (splitmix64's finaliser): spreads (run seed, step, row) over the 64-bit Philox key.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
    k[0] += 0x9E3779B9;
    k[1] += 0xBB67AE85;
  }
  return c;
}

double UniformAt(const RngKey& key, uint32_t token) {
  const uint64_t mixed = Mix(Mix(key.run_seed) ^ key.step);
  const auto r = Philox4x32(
      {token, key.rollout, static_cast<uint32_t>(key.row), static_cast<uint32_t>(key.row >> 32)},
      {static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32)});
  const uint64_t bits = (uint64_t{r[0]} << 21) ^ (uint64_t{r[1]} >> 11);
  return static_cast<double>(bits & ((uint64_t{1} << 53) - 1)) * 0x1.0p-53;
}

uint64_t BitsAt(uint64_t seed, uint64_t salt, uint64_t counter) {
  const uint64_t mixed = Mix(Mix(seed) ^ salt);
  const auto r = Philox4x32(
      {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0x52465421u, 0},
      {static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32)});
  return (uint64_t{r[0]} << 32) | r[1];
}

}  // namespace rft
