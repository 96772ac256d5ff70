// Python functions that hang, crash, print and lie, in real worker processes.
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "gmock/gmock.h"
#include "graders/process_grader.h"
#include "graders/worker_command.h"
#include "tests/graders/grader_testing.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kTests = RFT_TEST_DATA_DIR;

// Waits for a condition that another process brings about.
template <typename Condition>
bool Eventually(Condition condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

// Dead and waited for: a zombie is not gone.
bool IsGone(pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; }

// For what our workers leave behind: its zombie is waited for by init, which may take its time.
bool IsDead(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string id, name, state;
  return IsGone(pid) || (stat >> id >> name >> state && state == "Z");
}

class PythonGraderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("PYTHONPATH", (kTests + "/../bindings/python").c_str(), 1);
    SetWorkerCommand({RFT_TEST_PYTHON, "-m", "rft._worker"});
    pid_file_ = dir_ / "pid";
  }
  void TearDown() override {
    if (grader_ != nullptr) grader_->Shutdown();
    SetWorkerCommand({});
  }

  void Make(const std::string& function, Params params = {}, double deadline_s = 20) {
    params["function"] = "data/" + function;
    GraderSpec spec = Spec("python", std::move(params), "py");
    spec.base_dir = kTests + "/graders";
    spec.deadline_s = deadline_s;
    auto grader = CreateGrader(spec);
    ASSERT_TRUE(grader.ok()) << grader.status();
    grader_.reset(dynamic_cast<ProcessGrader*>(grader->release()));
    ASSERT_NE(grader_, nullptr);
  }
  void Misbehaving(double deadline_s = 20, Params params = {}) {
    Make("misbehaving.py:act", params, deadline_s);
  }

  std::future<Grade> Start(const std::string& completion, const std::string& json = "{}") {
    auto row = std::make_shared<Row>();
    row->json = json;
    auto job = std::make_shared<GradeJob>();
    job->row = row;
    job->completion = completion;
    auto promise = std::make_shared<std::promise<Grade>>();
    grader_->Start(job, [promise](Grade grade) { promise->set_value(std::move(grade)); });
    return promise->get_future();
  }
  Grade Run(const std::string& completion, const std::string& json = "{}") {
    return Start(completion, json).get();
  }

  // What hung is gone, and its replacement grades the next item.
  void ExpectReplaced() {
    EXPECT_TRUE(Eventually([pid = NotedPid()] { return IsDead(pid); }));
    EXPECT_EQ(ScoreOf(Run("score 1")), 1);
  }

  pid_t NotedPid() {
    pid_t pid = 0;
    EXPECT_TRUE(Eventually([&] { return static_cast<bool>(std::ifstream(pid_file_) >> pid); }));
    return pid;
  }

  testing::TempDir dir_;
  std::string pid_file_;
  std::unique_ptr<ProcessGrader> grader_;
};

TEST_F(PythonGraderTest, ScoresWithNumbersAndDicts) {
  Misbehaving();
  EXPECT_EQ(ScoreOf(Run("score 0.25")), 0.25);
  const Grade dict = Run("dict");
  EXPECT_EQ(ScoreOf(dict), 0.5);
  EXPECT_EQ(GradeReason(dict), "half");
  EXPECT_EQ(std::get<Score>(dict).sub_scores.at("a"), 1);
  const Grade parts = Run("parts");
  EXPECT_EQ(ScoreOf(parts), 0.75);
  EXPECT_EQ(std::get<Score>(parts).sub_scores.at("format"), 0.25);
}

TEST_F(PythonGraderTest, GivesTheFunctionTheColumnsItNames) {
  Make("misbehaving.py:wants_columns");
  const Grade grade = Run("hello", R"({"answer": 4, "messages": []})");
  EXPECT_EQ(ScoreOf(grade), 5);
  EXPECT_EQ(GradeReason(grade), "hello 4 none");
}

TEST_F(PythonGraderTest, SaysWhichParameterNobodyProvides) {
  Make("misbehaving.py:wants_too_much");
  EXPECT_THAT(GradeReason(Run("x", R"({"question": 1})")),
              HasSubstr("wants_too_much asks for 'text', which is neither one of completion, row"));
}

TEST_F(PythonGraderTest, RunsAsyncFunctions) {
  Make("misbehaving.py:later");
  EXPECT_EQ(ScoreOf(Run("four")), 4);
  EXPECT_EQ(ScoreOf(Run("fives")), 5);
}

TEST_F(PythonGraderTest, TreatsNoneAsAnAbstention) {
  Misbehaving();
  EXPECT_STREQ(GradeKind(Run("none")), "abstain");
}

TEST_F(PythonGraderTest, ReportsWrongReturnValuesNamingTypeAndFunction) {
  Misbehaving();
  EXPECT_THAT(GradeReason(Run("str")), HasSubstr("act returned str ('1.0'), not a number"));
  EXPECT_THAT(GradeReason(Run("nan")), HasSubstr("act returned nan; a score must be finite"));
  EXPECT_THAT(GradeReason(Run("inf")), HasSubstr("act returned inf"));
  for (const char* wrong : {"str", "nan", "inf"})
    EXPECT_STREQ(GradeKind(Run(wrong)), "error") << wrong;
}

TEST_F(PythonGraderTest, ReportsAnExceptionWithItsLineAndWhatWasPrinted) {
  Misbehaving();
  const Grade grade = Run("raise");
  EXPECT_STREQ(GradeKind(grade), "error");
  EXPECT_THAT(GradeReason(grade), HasSubstr("act raised ValueError: no good"));
  EXPECT_THAT(GradeReason(grade), HasSubstr("misbehaving.py:"));
  EXPECT_THAT(GradeReason(grade), HasSubstr("about to raise"));
}

TEST_F(PythonGraderTest, SurvivesSysExitAndARowThatIsNotJson) {
  Misbehaving();
  EXPECT_THAT(GradeReason(Run("sys_exit")), HasSubstr("SystemExit"));
  EXPECT_STREQ(GradeKind(Run("score 1", "{broken")), "error");
  EXPECT_STREQ(GradeKind(Run("score 1", "[1]")), "error");
  EXPECT_EQ(ScoreOf(Run("score 1")), 1);
  EXPECT_EQ(grader_->stats().num_started, 1);
}

TEST_F(PythonGraderTest, TakesACompletionThatIsNotUtf8) {
  Make("misbehaving.py:later");
  EXPECT_EQ(ScoreOf(Run("ab\xFF")), 3);
}

TEST_F(PythonGraderTest, KillsAndReplacesAWorkerThatHangs) {
  Misbehaving(0.5);
  ASSERT_TRUE(grader_->Prepare().ok());
  std::future<Grade> hanging = Start("hang " + pid_file_);
  std::future<Grade> next = Start("score 1");
  const Grade grade = hanging.get();
  EXPECT_STREQ(GradeKind(grade), "timeout");
  EXPECT_EQ(std::get<Timeout>(grade).deadline_s, 0.5);
  EXPECT_EQ(ScoreOf(next.get()), 1);
  EXPECT_TRUE(
      Eventually([pid = NotedPid()] { return IsGone(pid); }));  // a zombie would still be there
  EXPECT_EQ(grader_->stats().num_started, 2);
  EXPECT_EQ(grader_->stats().num_timeouts, 1);
}

TEST_F(PythonGraderTest, GivesItemsQueuedBehindAKilledOneToTheReplacement) {
  Misbehaving(0.5);
  for (int i = 0; i < 20; ++i)
    Run("score 1");  // quick: from now on items are sent ahead in batches
  std::vector<std::future<Grade>> grades;
  for (int i = 0; i < 40; ++i)
    grades.push_back(Start(i == 7 ? "hang " + pid_file_ : i == 20 ? "exit" : "score 1"));
  for (int i = 0; i < 40; ++i) {
    EXPECT_STREQ(GradeKind(grades[i].get()), i == 7    ? "timeout"
                                             : i == 20 ? "killed"
                                                       : "score")
        << i;
  }
  ExpectReplaced();
}

TEST_F(PythonGraderTest, GradesWhatWasSentBehindAHungCallWhileThatHangs) {
  Misbehaving(5);
  for (int i = 0; i < 20; ++i) Run("score 1");
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::future<Grade>> grades;
  for (int i = 0; i < 60; ++i)
    grades.push_back(Start(i % 20 == 5 ? "hang " + pid_file_ : "score 1"));
  for (int i = 0; i < 60; ++i) {
    if (i % 20 != 5) {
      EXPECT_STREQ(GradeKind(grades[i].get()), "score") << i;
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4));
  for (int i = 5; i < 60; i += 20) EXPECT_STREQ(GradeKind(grades[i].get()), "timeout") << i;
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::seconds(9));  // not three times 5
  EXPECT_EQ(grader_->stats().num_timeouts, 3);
  ExpectReplaced();
}

TEST_F(PythonGraderTest, ReportsACrashAsKilledAndGradesOn) {
  Misbehaving();
  const Grade segfault = Run("segfault");
  EXPECT_STREQ(GradeKind(segfault), "killed");
  EXPECT_THAT(GradeReason(segfault), HasSubstr("killed by signal 11"));
  EXPECT_THAT(GradeReason(segfault), HasSubstr("before the crash"));
  EXPECT_THAT(GradeReason(Run("exit")), HasSubstr("the worker exited with status 3"));
  EXPECT_EQ(ScoreOf(Run("score 1")), 1);
  EXPECT_EQ(grader_->stats().num_killed, 2);
}

TEST_F(PythonGraderTest, DrainsAHundredMegabytesOfOutputThatCanNotForgeAReply) {
  Misbehaving();
  EXPECT_EQ(ScoreOf(Run("print 100")), 1);
  EXPECT_EQ(ScoreOf(Run("score 0.5")), 0.5);
}

TEST_F(PythonGraderTest, KillsAForkedChildWithItsGroupWhenTheWorkerHangs) {
  Misbehaving(0.5);
  ASSERT_TRUE(grader_->Prepare().ok());
  EXPECT_STREQ(GradeKind(Run("fork_and_hang " + pid_file_)), "timeout");
  ExpectReplaced();
}

TEST_F(PythonGraderTest, NoticesAnExitEvenWhenAForkedChildHoldsThePipesAndKillsThatToo) {
  Misbehaving(5);
  ASSERT_TRUE(grader_->Prepare().ok());
  EXPECT_STREQ(GradeKind(Run("fork_and_exit " + pid_file_)), "killed");
  ExpectReplaced();
}

TEST_F(PythonGraderTest, TakesOneAnswerFromAFunctionThatForksAndReturnsTwice) {
  Misbehaving();
  EXPECT_EQ(ScoreOf(Run("fork_and_return")), 1);
  EXPECT_EQ(ScoreOf(Run("score 0.5")), 0.5);
  EXPECT_EQ(grader_->stats().num_started, 1);
}

TEST_F(PythonGraderTest, GivesTheWorkerNoneOfOurDescriptors) {
  std::vector<std::ifstream> open_files;
  for (int i = 0; i < 20; ++i) open_files.emplace_back("/dev/null");
  Misbehaving();
  EXPECT_LE(ScoreOf(Run("fds")), 7);  // 0, 1, 2, the two pipes, the listing itself, one to spare
}

TEST_F(PythonGraderTest, LimitsTheMemoryOfAWorker) {
  Misbehaving(20, {{"memory_limit_mb", "1024"}});
  EXPECT_EQ(ScoreOf(Run("allocate 16")), 16 << 20);
  EXPECT_THAT(GradeReason(Run("allocate 2048")), HasSubstr("MemoryError"));
}

TEST_F(PythonGraderTest, LimitsTheCpusOfAWorker) {
  cpu_set_t ours;
  ASSERT_EQ(sched_getaffinity(0, sizeof ours, &ours), 0);
  Misbehaving(20, {{"cpus", "1"}});
  EXPECT_EQ(ScoreOf(Run("cpus")), 1.0);
  Misbehaving(20);
  EXPECT_EQ(ScoreOf(Run("cpus")), CPU_COUNT(&ours));
}

TEST_F(PythonGraderTest, SpreadsItemsOverItsWorkers) {
  Misbehaving(20, {{"workers", "2"}});
  std::set<double> pids;
  EXPECT_TRUE(Eventually([&] {
    std::future<Grade> one = Start("pid"), two = Start("pid");
    pids.insert(ScoreOf(one.get()));
    pids.insert(ScoreOf(two.get()));
    return pids.size() == 2;
  }));
}

TEST_F(PythonGraderTest, EndsItsWorkersAndAnswersWhatIsInFlightAtShutdown) {
  Misbehaving();
  std::future<Grade> running = Start("hang " + pid_file_);
  const pid_t pid = NotedPid();
  std::future<Grade> queued = Start("score 1");
  grader_->Shutdown();
  EXPECT_EQ(GradeReason(running.get()), "shut down");
  EXPECT_EQ(GradeReason(queued.get()), "shut down");
  EXPECT_EQ(GradeReason(Run("score 1")), "shut down");
  EXPECT_TRUE(IsGone(pid));
}

TEST_F(PythonGraderTest, WorkersDieWithTheProgramThatStartedThem) {
  const pid_t program = fork();
  if (program == 0) {
    Misbehaving();
    Start("hang " + pid_file_).wait();
    _exit(0);
  }
  const pid_t worker = NotedPid();
  kill(program, SIGKILL);
  waitpid(program, nullptr, 0);
  EXPECT_TRUE(Eventually([worker] { return IsDead(worker); }));
}

TEST_F(PythonGraderTest, RefusesACompletionTooBigForAFrame) {
  Misbehaving();
  EXPECT_THAT(GradeReason(Run(std::string(33 << 20, 'x'))), HasSubstr("a worker takes at most"));
}

TEST_F(PythonGraderTest, NamesAMissingFileAtCreation) {
  EXPECT_THAT(CreationError(Spec("python", {{"function", "/no/such.py:f"}}, "py")),
              HasSubstr("graders[py].function: there is no file /no/such.py"));
  EXPECT_THAT(CreationError(Spec("python", {{"function", "f"}}, "py")),
              HasSubstr("reads neither \"path/to/file.py:name\" nor"));
  EXPECT_THAT(CreationError(Spec("python", {}, "py")), HasSubstr("graders[py].function: required"));
}

TEST_F(PythonGraderTest, SaysWhyAFunctionCanNotBeLoaded) {
  Make("misbehaving.py:act_up");
  EXPECT_THAT(
      std::string(grader_->Prepare().message()),
      HasSubstr(
          "has no function named 'act_up'; its functions: act, later, note_pid, wants_columns"));
  EXPECT_THAT(GradeReason(Run("score 1")), HasSubstr("act_up"));
  Make("misbehaving.py:not_a_function");
  EXPECT_THAT(std::string(grader_->Prepare().message()), HasSubstr("a int, not a function"));
  Make("broken_module.py:f");
  EXPECT_THAT(std::string(grader_->Prepare().message()),
              HasSubstr("RuntimeError: this module is broken"));
}

TEST_F(PythonGraderTest, SaysWhyWorkersDoNotStart) {
  SetWorkerCommand({"/no/such/python"});
  Misbehaving();
  EXPECT_THAT(std::string(grader_->Prepare().message()),
              HasSubstr("can't execute \"/no/such/python\""));
  SetWorkerCommand({"sh", "-c", "echo no module named rft >&2; exit 1"});
  Misbehaving();
  const std::string message(grader_->Prepare().message());
  EXPECT_THAT(message,
              HasSubstr("workers don't start (3 attempts): the worker exited with status 1"));
  EXPECT_THAT(message, HasSubstr("no module named rft"));
}

TEST_F(PythonGraderTest, DoesNotBelieveAWorkerThatSpeaksNonsense) {
  SetWorkerCommand({"sh", "-c", "printf '\\377\\377\\377\\377'; sleep 100"});
  Misbehaving();
  EXPECT_THAT(std::string(grader_->Prepare().message()),
              HasSubstr("a frame of 4294967295 bytes was announced"));
}

TEST_F(PythonGraderTest, GivesUpOnAWorkerThatNeverBecomesReady) {
  SetWorkerCommand({"sleep", "100"});
  Misbehaving(20, {{"startup_deadline_s", "0.05"}});
  EXPECT_THAT(std::string(grader_->Prepare().message()),
              HasSubstr("no answer within 0.05 s of being started"));
}

}  // namespace
}  // namespace rft
