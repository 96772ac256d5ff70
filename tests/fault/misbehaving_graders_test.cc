// 13 ways to misbehave x {C++ grader, Python grader, code in the sandbox}: in each group of four completions one misbehaves.
// Every group is done by its deadline + 1 s, no process is left, and the advantages are those of the group without the
// completion that could not be judged, bit for bit (of a group with a 0 where the model's own code misbehaved).
// RFT_FAULT_RUNS: how often (default 3; `make faults`: 100).
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <future>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "absl/strings/str_cat.h"
#include "graders/combine.h"
#include "graders/function_grader.h"
#include "graders/grader_pool.h"
#include "graders/worker_command.h"
#include "rollout/advantage.h"
#include "tests/graders/grader_testing.h"
#include "tests/security/sandbox_testing.h"

namespace rft {
namespace {

constexpr double kDeadlineS = 1.0;
constexpr double kSlackS = 1.0;

int NumRuns() {
  const char* runs = std::getenv("RFT_FAULT_RUNS");
  return runs == nullptr ? 3 : std::max(1, std::atoi(runs));
}

// The seconds in which this process got no CPU: on a machine that others keep busy (or that stopped it) they say nothing about us. A
// thread that only sleeps is late by as much; where a lock or a slow call of ours holds others up, it is not.
class StallMeter {
 public:
  StallMeter() : last_(Clock::now()), thread_([this] { Beat(); }) {}
  ~StallMeter() {
    stopping_ = true;
    thread_.join();
  }
  double seconds() {
    std::lock_guard<std::mutex> lock(mutex_);
    return stalled_s_ + Late();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr double kBeatS = 0.01, kLeastS = 0.1;

  double Late() const {
    const double late = std::chrono::duration<double>(Clock::now() - last_).count() - kBeatS;
    return late > kLeastS ? late : 0.0;
  }
  void Beat() {
    while (!stopping_) {
      std::this_thread::sleep_for(std::chrono::duration<double>(kBeatS));
      std::lock_guard<std::mutex> lock(mutex_);
      stalled_s_ += Late();
      last_ = Clock::now();
    }
  }

  std::mutex mutex_;
  double stalled_s_ = 0.0;
  Clock::time_point last_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// Processes with this test's mark in the environment they were started with.
int MarkedProcesses() {
  const std::string mark = absl::StrCat("RFT_FAULT_MARK=", getpid());
  int count = 0;
  DIR* proc = opendir("/proc");
  while (const dirent* entry = readdir(proc)) {
    std::ifstream in(absl::StrCat("/proc/", entry->d_name, "/environ"));
    for (std::string variable; in && std::getline(in, variable, '\0');) {
      if (variable == mark) {
        ++count;
        break;
      }
    }
  }
  closedir(proc);
  return count;
}

class MisbehavingGradersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("PYTHONPATH", (std::string(RFT_TEST_DATA_DIR) + "/../bindings/python").c_str(), 1);
    setenv("RFT_FAULT_MARK", std::to_string(getpid()).c_str(), 1);
    SetWorkerCommand({RFT_TEST_PYTHON, "-m", "rft._worker"});
  }
  void TearDown() override {
    SetWorkerCommand({});
    unsetenv("RFT_FAULT_MARK");
  }

  void Build(const std::vector<GraderSpec>& specs) {
    auto pool = GraderPool::Create(specs);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }

  static GraderSpec WithDeadline(GraderSpec spec) {
    spec.deadline_s = kDeadlineS;
    spec.base_dir = std::string(RFT_TEST_DATA_DIR) + "/graders";
    return spec;
  }

  // Grades the completions at once, as a group; checks the time it took.
  Rewards GradeGroup(const std::vector<std::string>& completions, const std::string& what) {
    const auto start = std::chrono::steady_clock::now();
    const double stalled_s = stalls_.seconds();
    std::vector<std::future<std::vector<NamedGrade>>> answers;
    const auto row = std::make_shared<Row>(RowWith({{"tests", "assert f(1) == 2"}}));
    for (const std::string& completion : completions) {
      auto rollout = std::make_shared<Rollout>();
      rollout->completion_text = completion;
      auto answer = std::make_shared<std::promise<std::vector<NamedGrade>>>();
      answers.push_back(answer->get_future());
      pool_->GradeAsync(row, rollout, [answer](std::vector<NamedGrade> grades) {
        answer->set_value(std::move(grades));
      });
    }
    Rewards rewards;
    for (size_t i = 0; i < answers.size(); ++i) {
      const std::vector<NamedGrade> grades = answers[i].get();
      const CombinedReward reward = Combine(grades);
      rewards.push_back(reward.scored ? std::optional<double>(reward.reward) : std::nullopt);
      last_kind_ = i == 1 ? GradeKind(grades.at(0).grade) : last_kind_;
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() -
        (stalls_.seconds() - stalled_s);
    EXPECT_LE(seconds, kDeadlineS + kSlackS) << what;
    slowest_s_ = std::max(slowest_s_, seconds);
    return rewards;
  }

  // The second of four misbehaves; the others have `scores`.
  void ExpectMasked(const Rewards& rewards, const std::vector<double>& scores,
                    const std::string& what) {
    ++num_groups_;
    EXPECT_EQ(rewards.at(1), std::nullopt) << what;
    const std::vector<double> got = ComputeAdvantages(AdvantageKind::kGrpo, rewards);
    const std::vector<double> without =
        ComputeAdvantages(AdvantageKind::kGrpo, {scores.at(0), scores.at(1), scores.at(2)});
    EXPECT_EQ(got, (std::vector<double>{without[0], 0.0, without[1], without[2]}))
        << what << ", a " << last_kind_;
  }

  void ExpectNothingLeft() {
    pool_.reset();
    for (int i = 0; i < 200 && MarkedProcesses() > 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(MarkedProcesses(), 0);
    EXPECT_EQ(SandboxProcessesLeft(), 0);
    printf("%d groups, slowest %.2f s (deadline %.1f s; no CPU for %.2f s), 0 processes left\n",
           num_groups_, slowest_s_, kDeadlineS, stalls_.seconds());
  }

  StallMeter stalls_;
  std::unique_ptr<GraderPool> pool_;
  std::string last_kind_;
  double slowest_s_ = 0;
  int num_groups_ = 0;
};

TEST_F(MisbehavingGradersTest, Cpp) {
  Build({});
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  const auto grade = [released](const GradeInput& input) -> Grade {
    if (input.completion == "raise") throw std::runtime_error("no good");
    if (input.completion == "nan") return Score{std::nan("")};
    if (input.completion == "inf") return Score{std::numeric_limits<double>::infinity()};
    if (input.completion == "hang") released.wait();
    return Score{static_cast<double>(input.completion.size())};
  };
  ASSERT_TRUE(pool_->AddGrader(WithDeadline({.name = "cpp"}), MakeFunctionGrader(grade)).ok());
  // What a thread can't do to others without taking the process with it: the other nine are for workers and sandboxes.
  // Only so many hanging calls are let go (NativePool::kMaxLost).
  const int runs = std::min(NumRuns(), NativePool::kMaxLost / 2);
  for (int run = 0; run < runs; ++run) {
    for (const char* what : {"raise", "nan", "inf", "hang"}) {
      ExpectMasked(GradeGroup({"a", what, "bb", "a"}, what), {1, 2, 1}, what);
    }
  }
  release.set_value();
  ExpectNothingLeft();
}

TEST_F(MisbehavingGradersTest, Python) {
  Build({WithDeadline(Spec(
      "python",
      {{"function", "data/misbehaving.py:act"}, {"workers", "2"}, {"memory_limit_mb", "1024"}}))});
  for (int run = 0; run < NumRuns(); ++run) {
    for (const char* what : {"raise", "none", "nan", "inf", "str", "count", "hang /dev/null", "gil",
                             "segfault", "exit", "bomb", "allocate 4096", "print 1024"}) {
      const Rewards rewards = GradeGroup({"score 1", what, "score 0", "score 0.5"}, what);
      // Printing without end is slow, not wrong: on a quick machine it is graded in time, here it may be.
      if (std::string(what) == "print 1024" && rewards.at(1) == 1.0) continue;
      ExpectMasked(rewards, {1, 0, 0.5}, what);
    }
  }
  ExpectNothingLeft();
}

TEST_F(MisbehavingGradersTest, Sandboxed) {
  Build({WithDeadline(Spec("python_tests", {{"tests", "{{item.tests}}"}, {"workers", "2"}}))});
  const std::string right = "def f(x): return x + 1";
  const std::string wrong = "def f(x): return x";
  const std::vector<std::string> bodies = {"raise ValueError('no good')",
                                           "return None",
                                           "return float('nan')",
                                           "return float('inf')",
                                           "return '2'",
                                           "return 2, 2",
                                           "import time; time.sleep(3600)",
                                           "import ctypes; ctypes.PyDLL(None).sleep(3600)",
                                           "import ctypes; ctypes.string_at(0)",
                                           "import os; os._exit(0)",
                                           "import os\n    while True: os.fork()",
                                           "return len(bytearray(4 << 30))",
                                           "for i in range(1 << 20): print('x' * 1023)"};
  ASSERT_EQ(bodies.size(), 13u);
  const std::vector<double> expected =
      ComputeAdvantages(AdvantageKind::kGrpo, {1.0, 0.0, 0.0, 1.0});
  for (int run = 0; run < NumRuns(); ++run) {
    for (const std::string& body : bodies) {
      const Rewards rewards = GradeGroup({right, "def f(x):\n    " + body, wrong, right}, body);
      EXPECT_EQ(rewards.at(1), 0.0) << body;  // its code is what is judged
      EXPECT_EQ(ComputeAdvantages(AdvantageKind::kGrpo, rewards), expected) << body;
      ++num_groups_;
    }
  }
  ExpectNothingLeft();
}

}  // namespace
}  // namespace rft
