#include "rft/train/batcher.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

absl::Status Invalid(size_t datum, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("datums[", datum, "]: ", std::string(what)));
}

// Datums that go through the model together: those of one prefix_id, or a single one.
struct Unit {
  std::vector<int64_t> datums;
  int64_t prefix = 0;  // shared tokens that are computed once
};

// Computed tokens of a datum beyond its shared prefix: the last wanted prediction decides how far the model must run.
int64_t LastSource(const Datum& d) {
  int64_t last = -1;
  for (size_t t = 1; t < d.ids.size(); ++t)
    if (d.weights[t] != 0.0f) last = static_cast<int64_t>(t) - 1;
  return last;
}
int64_t OwnTokens(const Datum& d, int64_t prefix) {
  return std::max<int64_t>(0, LastSource(d) + 1 - prefix);
}

std::vector<Unit> MakeUnits(absl::Span<const Datum> datums) {
  std::vector<Unit> units;
  std::map<int64_t, size_t> unit_of;
  for (size_t i = 0; i < datums.size(); ++i) {
    const Datum& d = datums[i];
    if (LastSource(d) < 0) continue;  // nothing to predict
    const auto index = static_cast<int64_t>(i);
    if (d.prefix_id < 0 || d.prefix_length == 0) {
      units.push_back({{index}, 0});
      continue;
    }
    auto [it, fresh] = unit_of.emplace(d.prefix_id, units.size());
    if (fresh) units.push_back({{}, d.prefix_length});
    units[it->second].datums.push_back(index);
  }
  return units;
}

void AppendRun(const Datum& d, int64_t owner, int64_t from, int64_t to, PackedSequence sequence,
               MicroBatch& batch) {
  sequence.begin = static_cast<int64_t>(batch.ids.size());
  sequence.count = to - from;
  for (int64_t t = from; t < to; ++t) {
    batch.ids.push_back(d.ids[t]);
    batch.positions.push_back(t);
    batch.owners.push_back(owner);
  }
  batch.sequences.push_back(sequence);
}

void AppendPredictions(const Datum& d, int64_t datum, int64_t prefix, int64_t prefix_begin,
                       int64_t own_begin, MicroBatch& batch) {
  for (size_t t = 1; t < d.ids.size(); ++t) {
    if (d.weights[t] == 0.0f) continue;
    const int64_t source = static_cast<int64_t>(t) - 1;
    const int64_t row = source < prefix ? prefix_begin + source : own_begin + source - prefix;
    batch.predictions.push_back({row, d.ids[t], datum, static_cast<int64_t>(t)});
  }
}

void AppendUnit(absl::Span<const Datum> datums, const Unit& unit, absl::Span<const int64_t> members,
                MicroBatch& batch) {
  const auto group = static_cast<int64_t>(batch.sequences.size());  // unique within the micro-batch
  const auto prefix_begin = static_cast<int64_t>(batch.ids.size());
  if (unit.prefix > 0)
    AppendRun(datums[members[0]], unit.datums[0], 0, unit.prefix, {.group = group}, batch);
  for (int64_t index : members) {
    const Datum& d = datums[index];
    const auto own_begin = static_cast<int64_t>(batch.ids.size());
    const int64_t own = OwnTokens(d, unit.prefix);
    PackedSequence run{.group = group};
    if (unit.prefix > 0) {
      run.prefix_begin = prefix_begin;
      run.prefix_count = unit.prefix;
    }
    if (own > 0) AppendRun(d, index, unit.prefix, unit.prefix + own, run, batch);
    AppendPredictions(d, index, unit.prefix, prefix_begin, own_begin, batch);
    batch.datums.push_back(index);
  }
}

// Which units go into which micro-batch: the largest first, each into the fullest that still has room (best-fit decreasing).
// Micro-batches are in the order of their first units, units in their own order. A unit larger than the budget is alone.
std::vector<std::vector<size_t>> PackUnits(absl::Span<const Datum> datums,
                                           const std::vector<Unit>& units, int64_t token_budget) {
  std::vector<int64_t> sizes;
  std::vector<size_t> order;
  for (const Unit& unit : units) {
    order.push_back(sizes.size());
    sizes.push_back(unit.prefix);
    for (int64_t i : unit.datums) sizes.back() += OwnTokens(datums[i], unit.prefix);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  std::vector<std::vector<size_t>> bins;
  std::multimap<int64_t, size_t> room;  // tokens left -> bin
  for (size_t unit : order) {
    auto best = room.lower_bound(sizes[unit]);
    const size_t bin = best == room.end() ? bins.size() : best->second;
    const int64_t left = (best == room.end() ? token_budget : best->first) - sizes[unit];
    if (best == room.end())
      bins.emplace_back();
    else
      room.erase(best);
    bins[bin].push_back(unit);
    if (left > 0) room.emplace(left, bin);
  }
  for (std::vector<size_t>& bin : bins) std::sort(bin.begin(), bin.end());
  std::sort(bins.begin(), bins.end());
  return bins;
}

}  // namespace

absl::Status ValidateDatums(absl::Span<const Datum> datums, int64_t vocab_size,
                            int64_t max_positions) {
  std::map<int64_t, size_t> first_of;
  for (size_t i = 0; i < datums.size(); ++i) {
    const Datum& d = datums[i];
    const size_t n = d.ids.size();
    if (n < 2) return Invalid(i, absl::StrCat("ids: needs at least 2 tokens, has ", n));
    if (static_cast<int64_t>(n) > max_positions)
      return Invalid(
          i, absl::StrCat("ids: ", n, " tokens are more than the context of ", max_positions));
    if (d.weights.size() != n)
      return Invalid(i, absl::StrCat("weights: has ", d.weights.size(), " entries, ids has ", n));
    if (d.weights[0] != 0.0f)
      return Invalid(i, "weights: entry 0 must be 0, nothing predicts the first token");
    for (size_t t = 0; t < n; ++t) {
      if (d.ids[t] < 0 || d.ids[t] >= vocab_size)
        return Invalid(i, absl::StrCat("ids[", t, "]: ", d.ids[t], " is outside the vocabulary of ",
                                       vocab_size));
      if (!(d.weights[t] >= 0.0f) || std::isinf(d.weights[t]))
        return Invalid(i, absl::StrCat("weights[", t, "]: must be finite and at least 0"));
    }
    const std::pair<const char*, const std::vector<float>*> optional[] = {
        {"advantages", &d.advantages},
        {"old_logprobs", &d.old_logprobs},
        {"sampling_logprobs", &d.sampling_logprobs},
        {"ref_logprobs", &d.ref_logprobs},
        {"sft_weights", &d.sft_weights}};
    for (const auto& [name, values] : optional)
      if (!values->empty() && values->size() != n)
        return Invalid(i, absl::StrCat(name, ": has ", values->size(), " entries, ids has ", n));
    if (d.prefix_id < 0) continue;
    if (d.prefix_length < 0 || d.prefix_length >= static_cast<int64_t>(n))
      return Invalid(i, absl::StrCat("prefix_length: ", d.prefix_length,
                                     " does not lie within the ", n, " tokens"));
    const auto [it, fresh] = first_of.emplace(d.prefix_id, i);
    const Datum& f = datums[it->second];
    if (!fresh && (f.prefix_length != d.prefix_length ||
                   !std::equal(d.ids.begin(), d.ids.begin() + d.prefix_length, f.ids.begin())))
      return Invalid(i, absl::StrCat("prefix_id ", d.prefix_id,
                                     ": the prefix differs from that of datums[", it->second, "]"));
  }
  return absl::OkStatus();
}

std::vector<MicroBatch> MakeMicroBatches(absl::Span<const Datum> datums, int64_t token_budget) {
  const std::vector<Unit> units = MakeUnits(datums);
  std::vector<MicroBatch> batches;
  for (const std::vector<size_t>& bin : PackUnits(datums, units, token_budget)) {
    batches.emplace_back();
    for (size_t index : bin) {
      const Unit& unit = units[index];
      // A group larger than the budget is split; each part computes the prefix again.
      for (size_t begin = 0; begin < unit.datums.size();) {
        int64_t tokens = static_cast<int64_t>(batches.back().ids.size()) + unit.prefix;
        size_t end = begin;
        while (end < unit.datums.size()) {
          const int64_t own = OwnTokens(datums[unit.datums[end]], unit.prefix);
          if (end > begin && tokens + own > token_budget) break;
          tokens += own;
          ++end;
        }
        AppendUnit(datums, unit, absl::MakeConstSpan(unit.datums).subspan(begin, end - begin),
                   batches.back());
        begin = end;
        if (begin < unit.datums.size()) batches.emplace_back();
      }
    }
  }
  return batches;
}

}  // namespace rft
