// Programs that try to get out of the sandbox: tests/security/testdata/escape.txt.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "graders/sandbox/sandbox.h"
#include "graders/sandbox/sandbox_process.h"
#include "tests/security/sandbox_testing.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

constexpr char kPrologue[] = R"(
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    return libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
def put(file, text):
    with open(file, "w") as f:
        f.write(text)
)";
constexpr char kSecret[] = "canary-5b1c";

class EscapeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Directly below the temporary folder, and open to all: only the sandbox keeps it from being read.
    const std::string file = folder_ / "secret";
    std::ofstream(file) << kSecret;
    open_folder_ = folder_ / "open";
    std::filesystem::create_directory(open_folder_);
    chmod(folder_.path().c_str(), 0755);
    chmod(open_folder_.c_str(), 0777);
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener_, 64), 0);
    socklen_t size = sizeof address;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    // A process of the machine with a secret in its environment.
    setenv("RFT_CANARY", kSecret, 1);
    auto bystander = SandboxProcess::Start({.argv = {"cat"}});
    ASSERT_TRUE(bystander.ok()) << bystander.status();
    bystander_ = *std::move(bystander);
    replacements_ = {{"@FILE@", file},
                     {"@SECRET@", kSecret},
                     {"@FOLDER@", open_folder_},
                     {"@PORT@", std::to_string(ntohs(address.sin_port))},
                     {"@PID@", std::to_string(getpid())}};
  }
  void TearDown() override {
    close(listener_);
    unsetenv("RFT_CANARY");
  }

  int NumConnections() {
    int count = 0;
    for (int fd; (fd = accept(listener_, nullptr, nullptr)) >= 0; ++count) close(fd);
    return count;
  }

  // What the program printed.
  std::string Run(const Sandbox& sandbox, const CorpusProgram& program) {
    absl::StatusOr<SandboxCommand> command = sandbox.Python();
    EXPECT_TRUE(command.ok()) << command.status();
    auto process = SandboxProcess::Start(command->spawn);
    EXPECT_TRUE(process.ok()) << process.status();
    const absl::Status ready = (*process)->WaitReady(20);
    EXPECT_TRUE(ready.ok()) << ready;
    (*process)->ReadRaw(1 << 20);
    const std::string source =
        absl::StrReplaceAll(absl::StrCat(kPrologue, program.source), replacements_);
    (*process)->WriteFrame(boost::json::serialize(
        boost::json::object{{"role", "program"}, {"source", source}, {"done", ""}}));
    (*process)->CloseInput();
    SandboxProcess* const processes[] = {process->get()};
    const auto deadline = SandboxProcess::Clock::now() + std::chrono::seconds(5);
    while (!(*process)->ended() && SandboxProcess::Pump(processes, deadline)) {
    }
    why_ = (*process)->printed();
    return (*process)->raw();
  }

  testing::TempDir folder_;
  std::string open_folder_;
  int listener_ = -1;
  std::unique_ptr<SandboxProcess> bystander_;
  std::vector<std::pair<std::string, std::string>> replacements_;
  std::string why_;
};

TEST_F(EscapeTest, NoneOfTheCorpusGetsOut) {
  auto sandbox = Sandbox::Create({});
  ASSERT_TRUE(sandbox.ok()) << sandbox.status();
  const std::vector<CorpusProgram> corpus = ReadCorpus("escape.txt");
  ASSERT_GE(corpus.size(), 60u);
  for (const CorpusProgram& program : corpus) {
    const std::string printed = Run(**sandbox, program);
    EXPECT_EQ(printed.find("ESCAPED"), std::string::npos) << program.name;
    EXPECT_EQ(why_.find("SyntaxError"), std::string::npos) << program.name << ": " << why_;
  }
  EXPECT_EQ(NumConnections(), 0);
  EXPECT_TRUE(std::filesystem::is_empty(open_folder_));
  EXPECT_FALSE((bystander_)->ended());
  EXPECT_EQ(SandboxProcessesLeft(), 0);
}

TEST_F(EscapeTest, TheHarmlessOnesOfTheCorpusSucceedWithoutTheSandbox) {
  auto unisolated = Sandbox::Create({.bwrap = "/nonexistent/bwrap", .allow_unisolated = true});
  ASSERT_TRUE(unisolated.ok()) << unisolated.status();
  ASSERT_FALSE((*unisolated)->isolated());
  int count = 0;
  for (const CorpusProgram& program : ReadCorpus("escape.txt")) {
    if (program.mark != "harmless") continue;
    EXPECT_NE(Run(**unisolated, program).find("ESCAPED"), std::string::npos)
        << program.name << ": " << why_;
    ++count;
  }
  EXPECT_GE(count, 20);
}

TEST_F(EscapeTest, AnotherInterpreterThatOnlyItsOwnerMayReachWorksToo) {
  // As root the first choice is to run as nobody; an interpreter below /root can't be read by it.
  auto sandbox = Sandbox::Create({.python = RFT_TEST_PYTHON});
  ASSERT_TRUE(sandbox.ok()) << sandbox.status();
  ASSERT_TRUE((*sandbox)->isolated());
  int count = 0;
  for (const CorpusProgram& program : ReadCorpus("escape.txt")) {
    if (program.mark != "harmless" || ++count % 5 != 0) continue;
    EXPECT_EQ(Run(**sandbox, program).find("ESCAPED"), std::string::npos) << program.name;
  }
  EXPECT_EQ(NumConnections(), 0);
}

}  // namespace
}  // namespace rft
