#include "rft/train/batcher.h"

#include <cmath>
#include <functional>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/random_datums.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Datum Row(std::vector<TokenId> ids, int prompt, int64_t prefix_id = -1) {
  Datum d;
  d.weights.assign(ids.size(), 1.0f);
  std::fill_n(d.weights.begin(), prompt, 0.0f);
  d.ids = std::move(ids);
  d.prefix_id = prefix_id;
  d.prefix_length = prefix_id >= 0 ? prompt : 0;
  return d;
}

TEST(BatcherTest,
     PacksTheExampleOfTheHeader) {  // a prompt of three tokens with answers of two and one
  const std::vector<Datum> datums = {Row({1, 2, 3, 10, 11}, 3, 0), Row({1, 2, 3, 20}, 3, 0)};
  const std::vector<MicroBatch> batches = MakeMicroBatches(datums, 100);
  ASSERT_EQ(batches.size(), 1u);
  const MicroBatch& b = batches[0];
  EXPECT_THAT(b.ids, ElementsAre(1, 2, 3, 10));  // 11 and 20 predict nothing
  EXPECT_THAT(b.positions, ElementsAre(0, 1, 2, 3));
  ASSERT_EQ(b.sequences.size(), 2u);
  EXPECT_EQ(b.sequences[1].prefix_count, 3);
  ASSERT_EQ(b.predictions.size(), 3u);
  EXPECT_EQ(b.predictions[0].source,
            2);  // the prompt's last token predicts the first of each answer
  EXPECT_EQ(b.predictions[0].target, 10);
  EXPECT_EQ(b.predictions[1].source, 3);
  EXPECT_EQ(b.predictions[1].target, 11);
  EXPECT_EQ(b.predictions[2].source, 2);
  EXPECT_EQ(b.predictions[2].target, 20);
  EXPECT_THAT(b.datums, ElementsAre(0, 1));
}

TEST(BatcherTest, ComputesNothingBehindTheLastWantedPrediction) {
  Datum d = Row({1, 2, 3, 4, 5, 6}, 2);
  d.weights = {0, 0, 1, 0, 0, 0};
  EXPECT_THAT(MakeMicroBatches({&d, 1}, 100)[0].ids, ElementsAre(1, 2));
  d.weights.assign(6, 0.0f);
  EXPECT_TRUE(MakeMicroBatches({&d, 1}, 100).empty());
}

TEST(BatcherTest, StartsAMicroBatchWhenTheBudgetIsUsedUp) {
  const std::vector<Datum> datums(5, Row({1, 2, 3, 4, 5}, 2));  // four computed tokens each
  std::vector<size_t> sizes;
  for (const MicroBatch& b : MakeMicroBatches(datums, 9)) sizes.push_back(b.ids.size());
  EXPECT_THAT(sizes, ElementsAre(8, 8, 4));
}

TEST(BatcherTest, PutsEachDatumWhereItFitsBest) {
  std::vector<Datum> datums;
  for (int64_t tokens : {6, 3, 5, 2}) datums.push_back(Row(std::vector<TokenId>(tokens + 1, 7), 1));
  const std::vector<MicroBatch> batches = MakeMicroBatches(datums, 8);
  ASSERT_EQ(batches.size(), 2u);  // 6 + 2 and 3 + 5; in the order given it would be three
  EXPECT_THAT(batches[0].datums, ElementsAre(0, 3));
  EXPECT_THAT(batches[1].datums, ElementsAre(1, 2));
}

TEST(BatcherTest, LetsASingleDatumExceedTheBudget) {
  const std::vector<Datum> datums(2, Row({1, 2, 3, 4, 5}, 2));
  EXPECT_EQ(MakeMicroBatches(datums, 1).size(), 2u);
}

TEST(BatcherTest, KeepsAGroupTogetherWhileItFits) {
  std::vector<Datum> datums = {Row({9, 9, 9, 9}, 1)};  // three tokens
  for (TokenId i = 0; i < 3; ++i)
    datums.push_back(Row({1, 2, 3, i, i, i}, 3, 7));  // 3 + 3 x 2 tokens
  const auto batches = MakeMicroBatches(datums, 10);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_THAT(batches[0].datums, ElementsAre(0));
  EXPECT_THAT(batches[1].datums, ElementsAre(1, 2, 3));
  EXPECT_EQ(batches[1].ids.size(), 9u);
}

TEST(BatcherTest, SplitsAGroupLargerThanTheBudgetAndRepeatsItsPrefix) {
  std::vector<Datum> datums;
  for (TokenId i = 0; i < 5; ++i) datums.push_back(Row({1, 2, 3, i, i, i}, 3, 7));
  const auto batches = MakeMicroBatches(datums, 7);  // prefix and two answers
  ASSERT_EQ(batches.size(), 3u);
  EXPECT_THAT(batches[0].datums, ElementsAre(0, 1));
  EXPECT_THAT(batches[2].datums, ElementsAre(4));
  for (const MicroBatch& b : batches)
    EXPECT_THAT(std::vector<int64_t>(b.ids.begin(), b.ids.begin() + 3), ElementsAre(1, 2, 3));
}

TEST(BatcherTest, CollectsAGroupWhoseDatumsAreApart) {
  const std::vector<Datum> datums = {Row({1, 2, 3, 4}, 2, 7), Row({5, 6}, 1),
                                     Row({1, 2, 8, 9}, 2, 7)};
  const auto batches = MakeMicroBatches(datums, 100);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_THAT(batches[0].datums, ElementsAre(0, 2, 1));
}

TEST(BatcherTest, PredictsEveryWantedTokenOnceFromTheTokenBeforeIt) {
  for (int64_t budget : {1, 16, 50, 200, 5000}) {
    const std::vector<Datum> datums = testing::RandomDatums(12, 3);
    std::set<std::pair<int64_t, int64_t>> seen;
    for (const MicroBatch& b : MakeMicroBatches(datums, budget)) {
      EXPECT_NO_THROW(PackedAttention{b.sequences});
      for (const auto& p : b.predictions) {
        const Datum& d = datums[p.datum];
        EXPECT_EQ(p.target, d.ids[p.token]);
        EXPECT_EQ(b.ids[p.source], d.ids[p.token - 1]);
        EXPECT_EQ(b.positions[p.source], p.token - 1);
        EXPECT_TRUE(seen.emplace(p.datum, p.token).second);
      }
    }
    size_t wanted = 0;
    for (const Datum& d : datums)
      for (float w : d.weights) wanted += w != 0.0f;
    EXPECT_EQ(seen.size(), wanted) << "budget " << budget;
  }
}

TEST(ValidateDatumsTest, NamesTheDatumAndTheField) {
  const std::pair<const char*, std::function<void(Datum&)>> cases[] = {
      {"ids: needs at least 2 tokens, has 1", [](Datum& d) { d.ids = {1}; }},
      {"ids: 21 tokens are more than the context of 20", [](Datum& d) { d.ids.resize(21, 1); }},
      {"weights: has 3 entries, ids has 4", [](Datum& d) { d.weights.pop_back(); }},
      {"weights: entry 0 must be 0", [](Datum& d) { d.weights[0] = 1.0f; }},
      {"ids[2]: 100 is outside the vocabulary of 100", [](Datum& d) { d.ids[2] = 100; }},
      {"ids[1]: -1 is outside the vocabulary", [](Datum& d) { d.ids[1] = -1; }},
      {"weights[3]: must be finite and at least 0", [](Datum& d) { d.weights[3] = -1.0f; }},
      {"weights[3]: must be finite and at least 0", [](Datum& d) { d.weights[3] = NAN; }},
      {"weights[3]: must be finite and at least 0", [](Datum& d) { d.weights[3] = INFINITY; }},
      {"advantages: has 1 entries, ids has 4", [](Datum& d) { d.advantages = {1.0f}; }},
      {"old_logprobs: has 3 entries", [](Datum& d) { d.old_logprobs.assign(3, 0.0f); }},
      {"sampling_logprobs: has 5 entries", [](Datum& d) { d.sampling_logprobs.assign(5, 0.0f); }},
      {"ref_logprobs: has 1 entries", [](Datum& d) { d.ref_logprobs = {0.0f}; }},
      {"sft_weights: has 2 entries", [](Datum& d) { d.sft_weights.assign(2, 1.0f); }},
      {"prefix_length: 4 does not lie within the 4 tokens", [](Datum& d) { d.prefix_length = 4; }},
      {"prefix_length: -1 does not lie within", [](Datum& d) { d.prefix_length = -1; }},
      {"prefix_id 7: the prefix differs from that of datums[0]",
       [](Datum& d) { d.prefix_length = 1; }},
      {"prefix_id 7: the prefix differs from that of datums[0]", [](Datum& d) { d.ids[1] = 50; }}};
  for (const auto& [message, change] : cases) {
    std::vector<Datum> datums(2, Row({1, 2, 3, 4}, 2, 7));
    ASSERT_TRUE(ValidateDatums(datums, 100, 20).ok());
    change(datums[1]);
    const absl::Status status = ValidateDatums(datums, 100, 20);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("datums[1]: ") + message));
  }
}

}  // namespace
}  // namespace rft
