// math_equal: score 1 if the completion's final answer is mathematically the expected one, else 0.
//
//   expected    template, default {{item.answer}}: LaTeX or plain; the content of its last \boxed{} if it has one
//   extract, pick   (graders/extract.h) cut the answer out of the completion; default: the content of its last \boxed{}, or
//               all of a completion of one short line
//   undecided   verify (default) | 0 | abstain: what becomes of pairs that graders/math_answer.h can't decide, and of
//               completions without a clear answer. verify: the Python package math-verify (SymPy) looks at them, in worker
//               processes that are started when the first such pair comes
//   workers     processes, default 1
// Most answers are decided here in microseconds; those that go to math-verify take milliseconds. `deadline_s` counts there.

#include <boost/json/object.hpp>
#include <memory>
#include <string>

#include "graders/async_grader.h"
#include "graders/extract.h"
#include "graders/math_answer.h"
#include "graders/param_reader.h"
#include "graders/template.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

constexpr size_t kMaxVerified = 8192;  // of a completion without a clear answer: its end

// Without time-outs of its own: the worker pool's deadline kills and replaces the process.
constexpr const char* kVerify = R"py(
try:
    from math_verify import parse, verify
except ImportError:
    raise ImportError("math_equal needs the package math-verify (pip install math-verify), or undecided: 0") from None
import logging

logging.getLogger("math_verify").setLevel(logging.ERROR)


def read(text, whole):
    if whole and "$" not in text:
        text = f"${text}$"
    return parse(text, parsing_timeout=None)


def grade(sample, item):
    expected = read(item["expected"], True)
    if not expected:
        raise ValueError(f"math-verify can't read the expected answer {item['expected'][:100]!r}")
    answer = read(sample["output_text"], item["whole"])
    if not answer:
        return {"score": 0.0, "reason": "no answer found"}
    equal = verify(expected, answer, timeout_seconds=None)
    return {"score": float(equal), "reason": "" if equal else f"math-verify read {str(answer[0])[:100]}"}
)py";

class MathEqual : public AsyncGrader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<MathEqual>();
    grader->expected_ = ReadTemplate(params, "expected", "{{item.answer}}");
    grader->extract_ = Extract::Read(params);
    grader->undecided_ = params.Choice("undecided", {"verify", "0", "abstain"}, "verify");
    const int64_t workers = params.Int("workers", 1, 1, 1024);
    RFT_RETURN_IF_ERROR(params.Finish());
    if (grader->undecided_ == "verify") {
      GraderSpec python;
      python.name = spec.name.empty() ? spec.type : spec.name;
      python.type = "python";
      python.deadline_s = spec.deadline_s;
      python.params = {{"source", kVerify}, {"workers", std::to_string(workers)}};
      RFT_ASSIGN_OR_RETURN(std::unique_ptr<Grader> made, CreateGrader(python));
      auto* async = dynamic_cast<AsyncGrader*>(made.get());
      if (async == nullptr) return absl::InternalError("the python grader is not asynchronous");
      made.release();
      grader->verifier_.reset(async);
    }
    return grader;
  }

  // Workers wait for the first pair they are needed for: most runs of whole-number answers need none.
  absl::Status Prepare() const override { return absl::OkStatus(); }

  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override {
    const absl::StatusOr<std::string> expected_text = expected_.Render(job->Input());
    if (!expected_text.ok()) return done(GradeWithoutText(expected_text.status()));
    const std::string_view expected = FindMathAnswer(*expected_text).value_or(*expected_text);
    std::optional<std::string_view> answer = extract_.Find(job->completion);
    if (!answer.has_value()) return done(Score{0.0, {}, "`extract` matches nothing"});
    answer = FindMathAnswer(*answer);
    if (job->completion.find_first_not_of(" \t\r\n") == std::string::npos)
      return done(Score{0.0, {}, "no answer found"});
    if (answer.has_value()) {
      const MathVerdict verdict = CompareMath(expected, *answer);
      if (verdict == MathVerdict::kEqual) return done(Score{1.0, {}, ""});
      if (verdict == MathVerdict::kDifferent) return done(Score{0.0, {}, Found(*answer)});
    }
    if (undecided_ == "0")
      return done(Score{0.0, {}, answer.has_value() ? Found(*answer) : "no answer found"});
    if (undecided_ == "abstain") return done(Abstain{"undecided"});
    verifier_->Start(VerifierJob(*job, expected, answer), std::move(done));
  }

  void Shutdown() const override {
    if (verifier_ != nullptr) verifier_->Shutdown();
  }

 private:
  static std::string Found(std::string_view answer) {
    return "found " + std::string(answer.substr(0, 100));
  }

  std::shared_ptr<const GradeJob> VerifierJob(const GradeJob& job, std::string_view expected,
                                              std::optional<std::string_view> answer) const {
    auto row = std::make_shared<Row>();
    row->index = job.row->index;
    row->json =
        ToJson(json::object{{"expected", json::string_view(expected.data(), expected.size())},
                            {"whole", answer.has_value()}});
    auto verified = std::make_shared<GradeJob>();
    verified->row = std::move(row);
    const std::string_view text = job.completion;
    verified->completion = std::string(
        answer.value_or(text.substr(text.size() - std::min(text.size(), kMaxVerified))));
    verified->finish_reason = job.finish_reason;
    return verified;
  }

  Template expected_;
  Extract extract_;
  std::string undecided_;
  std::unique_ptr<AsyncGrader> verifier_;
};

}  // namespace

RFT_REGISTER_GRADER("math_equal", MathEqual);

}  // namespace rft
