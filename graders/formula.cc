#include "graders/formula.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"

namespace rft {
namespace {

struct Function {
  const char* name;
  size_t max_arity;  // the least is 1
  double (*call)(absl::Span<const double>);
};

constexpr size_t kAny = 64;
const Function kFunctions[] = {
    {"min", kAny, [](absl::Span<const double> x) { return *std::min_element(x.begin(), x.end()); }},
    {"max", kAny, [](absl::Span<const double> x) { return *std::max_element(x.begin(), x.end()); }},
    {"abs", 1, [](absl::Span<const double> x) { return std::fabs(x[0]); }},
    {"floor", 1, [](absl::Span<const double> x) { return std::floor(x[0]); }},
    {"ceil", 1, [](absl::Span<const double> x) { return std::ceil(x[0]); }},
    {"exp", 1, [](absl::Span<const double> x) { return std::exp(x[0]); }},
    {"sqrt", 1, [](absl::Span<const double> x) { return std::sqrt(x[0]); }},
    {"log", 1, [](absl::Span<const double> x) { return std::log(x[0]); }},
};

double Apply(char symbol, double a, double b) {
  switch (symbol) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / b;
    default:
      return std::pow(a, b);
  }
}

bool StartsName(char c) { return absl::ascii_isalpha(c) || c == '_'; }

}  // namespace

// Recursive descent: sum -> product -> signed -> power -> atom.
class FormulaParser {
 public:
  explicit FormulaParser(std::string_view text) : text_(text) {
    formula_.text_ = std::string(text);
  }

  absl::StatusOr<Formula> Parse() {
    RFT_RETURN_IF_ERROR(Sum());
    if (Peek() != '\0') return Expected("an operator or the end");
    return std::move(formula_);
  }

 private:
  // Counts what is open while it lives.
  struct Level {
    explicit Level(int* depth) : depth(depth) { ++*depth; }
    ~Level() { --*depth; }
    int* const depth;
  };

  // The next character that isn't blank, 0 at the end.
  char Peek() {
    while (at_ < text_.size() && absl::ascii_isspace(text_[at_])) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool Take(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }

  absl::Status Wrong(const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("column ", at_ + 1, ": ", what));
  }
  absl::Status Expected(const char* what) {
    const char c = Peek();
    return Wrong(absl::StrCat("expected ", what, ", got ",
                              c == '\0' ? "the end" : absl::StrCat("'", std::string(1, c), "'")));
  }

  absl::Status Sum() {
    const Level level(&depth_);
    if (depth_ > Formula::kMaxDepth) return Wrong("nested too deeply");
    RFT_RETURN_IF_ERROR(Product());
    while (Peek() == '+' || Peek() == '-') {
      const char symbol = text_[at_++];
      RFT_RETURN_IF_ERROR(Product());
      formula_.ops_.push_back({.kind = Formula::Op::kBinary, .symbol = symbol});
    }
    return absl::OkStatus();
  }

  absl::Status Product() {
    RFT_RETURN_IF_ERROR(Signed());
    while (Peek() == '*' || Peek() == '/') {
      const char symbol = text_[at_++];
      if (symbol == '*' && Peek() == '*') return Wrong("a power is written with ^");
      RFT_RETURN_IF_ERROR(Signed());
      formula_.ops_.push_back({.kind = Formula::Op::kBinary, .symbol = symbol});
    }
    return absl::OkStatus();
  }

  absl::Status Signed() {
    const Level level(&depth_);
    if (depth_ > Formula::kMaxDepth) return Wrong("nested too deeply");
    if (Take('+')) return Signed();
    if (!Take('-')) return Power();
    RFT_RETURN_IF_ERROR(Signed());
    formula_.ops_.push_back({.kind = Formula::Op::kNegate});
    return absl::OkStatus();
  }

  absl::Status Power() {
    RFT_RETURN_IF_ERROR(Atom());
    if (!Take('^')) return absl::OkStatus();
    RFT_RETURN_IF_ERROR(Signed());  // right to left, and 2^-1 is a half
    formula_.ops_.push_back({.kind = Formula::Op::kBinary, .symbol = '^'});
    return absl::OkStatus();
  }

  absl::Status Atom() {
    if (Take('(')) {
      RFT_RETURN_IF_ERROR(Sum());
      return Take(')') ? absl::OkStatus() : Expected("')'");
    }
    const char c = Peek();
    if (absl::ascii_isdigit(c) || c == '.') return Number();
    if (StartsName(c)) return Name();
    return Expected("a number, a grader's name or '('");
  }

  absl::Status Number() {
    size_t end = at_;
    const auto digits = [&] {
      while (end < text_.size() && absl::ascii_isdigit(text_[end])) ++end;
    };
    digits();
    if (end < text_.size() && text_[end] == '.') ++end, digits();
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      size_t exponent = end + 1;
      if (exponent < text_.size() && (text_[exponent] == '-' || text_[exponent] == '+')) ++exponent;
      if (exponent < text_.size() && absl::ascii_isdigit(text_[exponent])) end = exponent, digits();
    }
    const std::string written(text_.substr(at_, end - at_));
    double value = 0.0;
    if (!absl::SimpleAtod(written, &value) || !std::isfinite(value))
      return Wrong(absl::StrCat("'", written, "' is not a number"));
    at_ = end;
    formula_.ops_.push_back({.kind = Formula::Op::kNumber, .number = value});
    return absl::OkStatus();
  }

  absl::Status Name() {
    const size_t start = at_;
    while (at_ < text_.size() && (StartsName(text_[at_]) || absl::ascii_isdigit(text_[at_]))) ++at_;
    const std::string name(text_.substr(start, at_ - start));
    if (Peek() == '(') {
      at_ = start;
      return Call(name);
    }
    auto& variables = formula_.variables_;
    auto found = std::find(variables.begin(), variables.end(), name);
    const auto index = static_cast<size_t>(found - variables.begin());
    if (found == variables.end()) variables.push_back(name);
    formula_.ops_.push_back({.kind = Formula::Op::kVariable, .index = index});
    return absl::OkStatus();
  }

  absl::Status Call(const std::string& name) {
    size_t index = 0;
    std::vector<std::string> known;
    for (const Function& function : kFunctions) known.emplace_back(function.name);
    while (index < known.size() && known[index] != name) ++index;
    if (index == known.size()) {
      return Wrong(
          absl::StrCat("there is no function ", name, "; known: ", absl::StrJoin(known, ", ")));
    }
    at_ += name.size();
    Take('(');
    size_t arity = 0;
    do {
      if (++arity > kFunctions[index].max_arity)
        return Wrong(absl::StrCat(name, " takes ", kFunctions[index].max_arity, " argument",
                                  kFunctions[index].max_arity == 1 ? "" : "s at most"));
      RFT_RETURN_IF_ERROR(Sum());
    } while (Take(','));
    if (!Take(')')) return Expected("',' or ')'");
    formula_.ops_.push_back({.kind = Formula::Op::kCall, .index = index, .arity = arity});
    return absl::OkStatus();
  }

  const std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  Formula formula_;
};

absl::StatusOr<Formula> Formula::Parse(std::string_view text) {
  if (text.size() > kMaxLength) {
    return absl::InvalidArgumentError(
        absl::StrCat(text.size(), " characters; a formula has at most ", kMaxLength));
  }
  return FormulaParser(text).Parse();
}

double Formula::Run(const std::vector<double>& variables) const {
  std::vector<double> stack;
  for (const Op& op : ops_) {
    switch (op.kind) {
      case Op::kNumber:
        stack.push_back(op.number);
        break;
      case Op::kVariable:
        stack.push_back(variables[op.index]);
        break;
      case Op::kNegate:
        stack.back() = -stack.back();
        break;
      case Op::kBinary: {
        const double right = stack.back();
        stack.pop_back();
        stack.back() = Apply(op.symbol, stack.back(), right);
        break;
      }
      case Op::kCall: {
        const auto first = stack.end() - static_cast<std::ptrdiff_t>(op.arity);
        const double result = kFunctions[op.index].call({&*first, op.arity});
        stack.erase(first, stack.end());
        stack.push_back(result);
        break;
      }
    }
  }
  return stack.back();
}

absl::StatusOr<double> Formula::Evaluate(const std::map<std::string, double>& values) const {
  std::vector<double> variables;
  for (const std::string& name : variables_) {
    const auto value = values.find(name);
    if (value == values.end())
      return absl::InvalidArgumentError(absl::StrCat("there is no value of ", name));
    variables.push_back(value->second);
  }
  const double result = Run(variables);
  if (std::isfinite(result)) return result;
  std::string where;
  for (size_t i = 0; i < variables.size(); ++i)
    absl::StrAppend(&where, i == 0 ? " with " : ", ", variables_[i], " = ",
                    ShortestDouble(variables[i]));
  return absl::InvalidArgumentError(
      absl::StrCat(text_, " is ", ShortestDouble(result), where, "; a score must be finite"));
}

}  // namespace rft
