// The scheduler without a model: a pretend cache remembers which token each slot of each page holds, so that a page that is
// shared, copied or freed at the wrong time is noticed.
#include "rft/engine/scheduler.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "rft/core/rng.h"

namespace rft {
namespace {

class SchedulerTest : public ::testing::Test {
 protected:
  static constexpr int64_t kPage = 4;

  void Start(int64_t pages, int64_t max_batch, int64_t max_batch_tokens) {
    options_ = {max_batch, max_batch_tokens, kPage};
    contents_.assign(pages, std::vector<TokenId>(kPage, -1));
    scheduler_ = std::make_unique<Scheduler>(pages, options_, [this](PageId from, PageId to) {
      contents_[to] = contents_[from];
      ++num_copies_;
    });
  }
  std::shared_ptr<EngineRequest> Add(int64_t prompt, int32_t max_tokens, int32_t num_samples = 1) {
    auto request = std::make_shared<EngineRequest>();
    for (int64_t i = 0; i < prompt; ++i)
      request->request.prompt.push_back(static_cast<TokenId>(1000 * ++num_requests_ + i));
    request->request.sampling.max_tokens = max_tokens;
    request->request.num_samples = num_samples;
    scheduler_->Add(request);
    return request;
  }
  // A request for this very prompt.
  std::shared_ptr<EngineRequest> AddPrompt(std::vector<TokenId> prompt, int32_t max_tokens,
                                           uint64_t client = 0) {
    auto request = std::make_shared<EngineRequest>();
    request->request.prompt = std::move(prompt);
    request->request.sampling.max_tokens = max_tokens;
    request->request.client = client;
    scheduler_->Add(request);
    return request;
  }
  static std::vector<TokenId> Count(TokenId first, int64_t count) {
    std::vector<TokenId> ids(count);
    for (int64_t i = 0; i < count; ++i) ids[i] = first + static_cast<TokenId>(i);
    return ids;
  }
  // One iteration as the engine makes it. Returns what was computed.
  std::vector<int64_t> Step() {
    const std::vector<Scheduler::Work> work = scheduler_->NextIteration();
    scheduler_->CheckInvariants();
    std::vector<int64_t> counts;
    for (const auto& w : work) {
      counts.push_back(w.count);
      Compute(w);
    }
    int64_t tokens = 0;
    for (int64_t c : counts) tokens += c;
    EXPECT_LE(tokens, options_.max_batch_tokens);
    for (const auto& w : work) scheduler_->Computed(w);
    scheduler_->CheckInvariants();
    for (const auto& w : work)
      if (w.wants_logits) Sample(w.sequence);
    scheduler_->CheckInvariants();
    return counts;
  }
  int RunToTheEnd(int limit = 10000) {
    int steps = 0;
    while (scheduler_->num_running() + scheduler_->num_waiting() > 0 && steps < limit) {
      const bool worked = !Step().empty();
      EXPECT_TRUE(worked) << "nothing to do, but " << scheduler_->num_waiting() << " wait";
      if (!worked) break;
      ++steps;
    }
    return steps;
  }
  void Cancel(const std::shared_ptr<EngineRequest>& request) {
    request->cancelled = true;
    for (const auto& s : scheduler_->RemoveCancelled()) EXPECT_TRUE(s->pages.empty());
    scheduler_->CheckInvariants();
  }

  SchedulerOptions options_;
  std::vector<std::vector<TokenId>> contents_;  // by page
  std::unique_ptr<Scheduler> scheduler_;
  int num_requests_ = 0, num_copies_ = 0, num_finished_ = 0;

 private:
  void Compute(const Scheduler::Work& w) {
    const EngineSequence& s = *w.sequence;
    for (int64_t t = 0; t < s.num_cached; ++t)
      ASSERT_EQ(contents_[s.pages[t / kPage]][t % kPage], s.tokens[t])
          << "cached token " << t << " was overwritten";
    for (int64_t t = s.num_cached; t < s.num_cached + w.count; ++t) {
      ASSERT_EQ(scheduler_->pool().references(s.pages[t / kPage]), 1)
          << "writes into a shared page";
      contents_[s.pages[t / kPage]][t % kPage] = s.tokens[t];
    }
  }
  void Sample(EngineSequence* sequence) {
    std::vector<EngineSequence*> samples = {sequence};
    if (sequence->sample == EngineSequence::kPrompt) samples = scheduler_->Fork(sequence);
    scheduler_->CheckInvariants();
    for (EngineSequence* s : samples) {
      const auto made = static_cast<int64_t>(s->completion.ids.size());
      const auto token =
          static_cast<TokenId>(s->tokens[0] * 10 + s->sample * 1000 + made);  // like no other
      s->tokens.push_back(token);
      s->completion.ids.push_back(token);
      if (made + 1 < s->owner->request.sampling.max_tokens) continue;
      EXPECT_TRUE(scheduler_->Remove(s)->pages.empty());
      ++num_finished_;
    }
  }
};

TEST_F(SchedulerTest, PrefillsAPromptThenDecodesOneTokenAnIteration) {
  Start(10, 4, 100);
  Add(6, 3);
  EXPECT_EQ(Step(), std::vector<int64_t>{6});
  EXPECT_EQ(Step(), std::vector<int64_t>{1});
  EXPECT_EQ(scheduler_->pool().used(), 2);
  EXPECT_EQ(Step(), std::vector<int64_t>{1});
  EXPECT_EQ(num_finished_, 1);
  EXPECT_EQ(scheduler_->pool().used(), 0);
}

TEST_F(SchedulerTest, CutsALongPromptIntoChunks) {
  Start(20, 4, 5);
  Add(13, 2);
  EXPECT_EQ(Step(), std::vector<int64_t>{5});
  EXPECT_EQ(Step(), std::vector<int64_t>{5});
  EXPECT_EQ(Step(), std::vector<int64_t>{3});  // the first token is sampled here
  EXPECT_EQ(Step(), std::vector<int64_t>{1});
  EXPECT_EQ(num_finished_, 1);
}

TEST_F(SchedulerTest, DecodesBeforeItPrefills) {
  Start(20, 4, 5);
  Add(3, 10);
  Step();
  Add(9, 1);
  EXPECT_EQ(Step(), (std::vector<int64_t>{1, 4}));
  EXPECT_EQ(Step(), (std::vector<int64_t>{1, 4}));
  EXPECT_EQ(Step(), (std::vector<int64_t>{1, 1}));
}

TEST_F(SchedulerTest, AdmitsNoMoreThanTheBatchHolds) {
  Start(100, 2, 100);
  for (int i = 0; i < 5; ++i) Add(4, 3);
  Step();
  EXPECT_EQ(scheduler_->num_running(), 2);
  EXPECT_EQ(scheduler_->num_waiting(), 3);
  RunToTheEnd();
  EXPECT_EQ(num_finished_, 5);
}

TEST_F(SchedulerTest, DecodesAForkLargerThanTheBatchInTurns) {
  Start(100, 3, 100);
  Add(4, 3, 8);
  Step();
  EXPECT_EQ(Step().size(), 3u);
  RunToTheEnd();
  EXPECT_EQ(num_finished_, 8);
}

TEST_F(SchedulerTest, AdmitsInOrderOfArrivalAsPagesAllow) {
  Start(3, 4, 100);
  Add(8, 1);  // two pages
  Add(8, 1);
  Step();
  EXPECT_EQ(num_finished_, 1);
  Step();
  EXPECT_EQ(num_finished_, 2);
}

TEST_F(SchedulerTest, SharesWholePagesAndCopiesTheLastWhenItForks) {
  Start(20, 8, 100);
  Add(10, 5, 3);  // two whole pages and half a page
  Step();
  EXPECT_EQ(num_copies_, 3);
  EXPECT_EQ(scheduler_->pool().used(), 2 + 3);
  EXPECT_EQ(scheduler_->num_running(), 3);
  RunToTheEnd();
  EXPECT_EQ(num_finished_, 3);
  EXPECT_EQ(scheduler_->pool().used(), 0);
}

TEST_F(SchedulerTest, CopiesNothingWhenThePromptFillsItsPages) {
  Start(20, 8, 100);
  Add(8, 5, 3);
  Step();
  EXPECT_EQ(num_copies_, 0);
  EXPECT_EQ(scheduler_->pool().used(), 2);
  RunToTheEnd();
  EXPECT_EQ(num_finished_, 3);
}

TEST_F(SchedulerTest, QueuesSamplesThatFindNoPageForTheirCopy) {
  Start(4, 8, 100);
  Add(6, 4, 5);  // two pages, and five copies wanted
  RunToTheEnd();
  EXPECT_EQ(num_finished_, 5);
  EXPECT_EQ(scheduler_->pool().used(), 0);
}

TEST_F(SchedulerTest, PreemptsTheYoungestUnderPageShortageAndFinishesAll) {
  Start(7, 8, 100);
  for (int i = 0; i < 4; ++i) Add(5, 14);  // each ends with five pages
  RunToTheEnd();
  EXPECT_GT(scheduler_->num_preemptions(), 0);
  EXPECT_EQ(num_finished_, 4);
  EXPECT_EQ(scheduler_->pool().used(), 0);
}

TEST_F(SchedulerTest, FreesEverythingOfACancelledRequest) {
  Start(20, 8, 6);
  auto forked = Add(6, 10, 3), running = Add(5, 10), waiting = Add(30, 10);
  Step();
  Step();
  Cancel(forked);
  Cancel(waiting);
  EXPECT_EQ(scheduler_->num_waiting(), 0);
  Cancel(running);
  EXPECT_EQ(scheduler_->num_running(), 0);
  EXPECT_EQ(scheduler_->pool().used(), 0);
  EXPECT_TRUE(Step().empty());
}

TEST_F(SchedulerTest, TakesOutEverythingAtOnce) {
  Start(20, 2, 6);
  for (int i = 0; i < 4; ++i) Add(5, 10);
  Step();
  EXPECT_EQ(scheduler_->RemoveAll().size(), 4u);
  EXPECT_EQ(scheduler_->pool().used(), 0);
}

TEST_F(SchedulerTest, ComputesAKnownBeginningOnce) {
  Start(20, 4, 100);
  AddPrompt(Count(0, 10), 1);
  EXPECT_EQ(Step(), std::vector<int64_t>{10});
  std::vector<TokenId> longer = Count(0, 10);
  longer.push_back(77);
  AddPrompt(longer, 1);
  EXPECT_EQ(Step(), std::vector<int64_t>{3});  // two pages of 4 were known
  AddPrompt(Count(0, 8), 1);
  EXPECT_EQ(Step(), std::vector<int64_t>{4});  // one token is computed anew, with its page
  EXPECT_EQ(scheduler_->num_prefix_hit_tokens(), 8 + 4);
  EXPECT_EQ(scheduler_->pool().used(), 0);
}

TEST_F(SchedulerTest, ContinuesAConversationFromThePagesOfItsCompletion) {
  Start(20, 4, 100);
  auto first = AddPrompt(Count(0, 6), 7);
  std::vector<TokenId> text = Count(0, 6);
  for (int i = 0; i < 7; ++i)
    text.push_back(static_cast<TokenId>(i));  // what Sample draws: 0 * 10 + i
  RunToTheEnd();
  text.push_back(500);
  AddPrompt(text, 1);
  EXPECT_EQ(Step(), std::vector<int64_t>{2});  // 12 of 14 lie in whole pages
}

TEST_F(SchedulerTest, WaitsForABeginningThatIsBeingComputed) {
  Start(40, 8, 100);
  for (TokenId last : {100, 200, 300}) {
    std::vector<TokenId> prompt = Count(0, 12);
    prompt.push_back(last);
    AddPrompt(prompt, 2);
  }
  EXPECT_EQ(Step(), std::vector<int64_t>{13});
  EXPECT_EQ(Step(), (std::vector<int64_t>{1, 1, 1}));
  RunToTheEnd();
  EXPECT_EQ(num_finished_, 3);
  EXPECT_EQ(scheduler_->num_prefix_hit_tokens(), 24);
}

TEST_F(SchedulerTest, ForgetsWhatAnotherVersionComputed) {
  Start(20, 4, 100);
  AddPrompt(Count(0, 10), 1);
  Step();
  scheduler_->SetVersion(2);
  scheduler_->CheckInvariants();
  AddPrompt(Count(0, 10), 1);
  EXPECT_EQ(Step(), std::vector<int64_t>{10});
}

TEST_F(SchedulerTest, KeepsNoPagesThatTwoVersionsComputed) {
  Start(20, 4, 6);
  AddPrompt(Count(0, 14), 1);
  Step();  // 6 tokens with the first version
  scheduler_->SetVersion(2);
  RunToTheEnd();
  AddPrompt(Count(0, 14), 1);
  RunToTheEnd();
  EXPECT_EQ(scheduler_->num_prefix_hit_tokens(), 0);
}

TEST_F(SchedulerTest, RemembersTheTextsOfOtherWeightsUntilTheyAreDropped) {
  Start(16, 4, 64);
  scheduler_->SetVersion(1);
  scheduler_->AddVersion(2);
  const auto computed_with = [&](int64_t weights_id) {
    AddPrompt(Count(1, 9), 1)->weights_id = weights_id;
    return Step()[0];
  };
  EXPECT_EQ(computed_with(2), 9);
  EXPECT_EQ(computed_with(2), 1);
  EXPECT_EQ(computed_with(0), 9);
  scheduler_->DropVersion(2);
  EXPECT_EQ(computed_with(2), 9);
  EXPECT_EQ(computed_with(2), 9);  // nothing is remembered of what is gone
  EXPECT_EQ(computed_with(0), 1);
}

TEST_F(SchedulerTest, UsesNoKnownBeginningWhenToldNotTo) {
  Start(20, 4, 100);
  AddPrompt(Count(0, 10), 1);
  Step();
  AddPrompt(Count(0, 10), 1)->request.use_prefix_cache = false;
  EXPECT_EQ(Step(), std::vector<int64_t>{10});
}

TEST_F(SchedulerTest, SharesNoBeginningWithAnotherSalt) {
  Start(40, 4, 100);
  for (const char* salt : {"", "s", "t", "s"}) {
    AddPrompt(Count(0, 10), 1)->request.cache_salt = salt;
    EXPECT_EQ(Step(), (std::vector<int64_t>{num_finished_ < 3 ? 10 : 2}));
  }
  AddPrompt(Count(50, 10), 1)->request.cache_salt =
      "s";  // at once: nor do they wait for each other
  AddPrompt(Count(50, 10), 1);
  EXPECT_EQ(Step(), (std::vector<int64_t>{10, 10}));
}

// Each of these would be a sequence in two places, or more of them than there is room for.
TEST_F(SchedulerTest, ItsInvariantsNoticeAPlaceThatIsTakenTwice) {
  Start(40, 4, 100);
  Add(6, 5, /*num_samples=*/2);
  Step();
  const auto work = scheduler_->NextIteration();
  ASSERT_EQ(work.size(), 2u);
  EngineSequence& first = *work[0].sequence;
  const auto broken = [&](auto breaks) {
    EXPECT_DEATH(
        {
          breaks();
          scheduler_->CheckInvariants();
        },
        "scheduler.cc");
  };
  broken([&] { first.sample = work[1].sequence->sample; });
  broken([&] { first.sample = EngineSequence::kPrompt; });
  broken([&] { first.sample = 2; });
  broken([&] { first.tokens.resize(3); });  // holds a page that no token needs
  scheduler_->CheckInvariants();
}

TEST_F(SchedulerTest, LetsClientsTakeTurnsByTokens) {
  Start(200, 1, 100);
  for (TokenId i = 0; i < 6; ++i) AddPrompt(Count(100 * i, 4), 1, /*client=*/1);
  for (TokenId i = 0; i < 2; ++i) AddPrompt(Count(1000 + 100 * i, 9), 1, /*client=*/2);
  std::vector<int64_t> order;
  while (scheduler_->num_waiting() > 0) order.push_back(Step().at(0));
  EXPECT_EQ(order, (std::vector<int64_t>{4, 9, 4, 4, 9, 4, 4, 4}));
}

TEST_F(SchedulerTest, RecomputesWhatAsksForItWhenWeightsChange) {
  Start(40, 4, 100);
  auto anew = AddPrompt(Count(0, 10), 5), goes_on = AddPrompt(Count(100, 10), 5);
  anew->request.weight_policy = WeightPolicy::kRecompute;
  Step();
  Step();
  scheduler_->SetVersion(2);
  scheduler_->RecomputeForNewVersion();
  scheduler_->CheckInvariants();
  EXPECT_EQ(Step(), (std::vector<int64_t>{1, 12}));
  RunToTheEnd();
  EXPECT_EQ(num_finished_, 2);
}

// Requests of all sizes come and are cancelled at random while pages are short.
TEST_F(SchedulerTest, KeepsItsInvariantsThroughARandomSoak) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    auto random = [&, n = uint64_t{0}](int64_t low, int64_t high) mutable {
      return low +
             static_cast<int64_t>(BitsAt(seed, 1, n++) % static_cast<uint64_t>(high - low + 1));
    };
    const int64_t max_batch = random(1, 8);
    Start(random(12, 30), max_batch, max_batch + random(0, 20));
    num_finished_ = 0;
    int expected = 0;
    std::vector<std::shared_ptr<EngineRequest>> open;
    for (int i = 0; i < 150; ++i) {
      if (random(0, 2) == 0) {  // at most 40 tokens: ten pages, and one for the copy
        if (random(0, 1) == 0) {
          open.push_back(Add(random(1, 20), static_cast<int32_t>(random(1, 20)),
                             static_cast<int32_t>(random(1, 5))));
        } else {  // a beginning that others have, too
          open.push_back(AddPrompt(Count(static_cast<TokenId>(random(0, 1)), random(1, 20)),
                                   static_cast<int32_t>(random(1, 20)),
                                   static_cast<uint64_t>(random(0, 2))));
          open.back()->request.weight_policy = static_cast<WeightPolicy>(random(0, 1) * 2);
        }
        expected += open.back()->request.num_samples;
      }
      if (random(0, 19) == 0 && !open.empty()) {
        const auto& victim = open[random(0, static_cast<int64_t>(open.size()) - 1)];
        victim->cancelled = true;
        for (const auto& s : scheduler_->RemoveCancelled())
          expected -= s->sample == EngineSequence::kPrompt ? s->owner->request.num_samples : 1;
        scheduler_->CheckInvariants();
      }
      if (random(0, 29) == 0) {
        scheduler_->SetVersion(i);
        scheduler_->RecomputeForNewVersion();
      }
      Step();
    }
    RunToTheEnd();
    EXPECT_EQ(num_finished_, expected) << "seed " << seed;
    EXPECT_EQ(scheduler_->pool().used(), 0) << "seed " << seed;
  }
}

}  // namespace
}  // namespace rft
