// A grade: what a grader says about one completion.
//
// It is a sum type. Only a Score enters a reward and through it an advantage; every other alternative says why there is
// no score, masks the rollout, is counted, and never becomes a reward of 0.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "rft/core/sub_scores.h"

namespace rft {

struct Score {
  double value = 0.0;    // finite; a grader's NaN or Inf becomes a GradeError
  SubScores sub_scores;  // named parts, reported as metrics
  std::string reason;    // kept in rollouts.jsonl
  // Where in the completion the value was earned: one part per turn (model segment). What the parts leave of `value`
  // belongs to the last turn. Empty: all of it does. Read with advantage.level: turn.
  std::vector<double> turn_scores;
  // One per completion token, times the grader's weight added to the token's advantage as it is (a process reward, a
  // teacher). Empty: nothing.
  std::vector<double> token_advantages;
};
struct Abstain {  // the grader has no opinion about this completion
  std::string reason;
};
struct GradeError {  // raised, wrong type, NaN, lost connection
  std::string message;
};
struct Timeout {  // no answer by the deadline
  double deadline_s = 0.0;
};
struct Killed {  // the process that graded died or was killed for exceeding a limit
  std::string cause;
};

using Grade = std::variant<Score, Abstain, GradeError, Timeout, Killed>;

inline bool IsScore(const Grade& grade) { return std::holds_alternative<Score>(grade); }

// "score", "abstain", "error", "timeout", "killed": the word used in rollouts.jsonl and in metric names.
inline const char* GradeKind(const Grade& grade) {
  static constexpr const char* kNames[] = {"score", "abstain", "error", "timeout", "killed"};
  return kNames[grade.index()];
}

// The score's reason, or why there is none.
inline std::string GradeReason(const Grade& grade) {
  struct Visitor {
    std::string operator()(const Score& s) const { return s.reason; }
    std::string operator()(const Abstain& a) const { return a.reason; }
    std::string operator()(const GradeError& e) const { return e.message; }
    std::string operator()(const Timeout& t) const {
      return absl::StrCat("no answer within ", t.deadline_s, " s");
    }
    std::string operator()(const Killed& k) const { return k.cause; }
  };
  return std::visit(Visitor{}, grade);
}

}  // namespace rft
