#include "graders/math_answer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "graders/math_expression.h"
#include "graders/math_value.h"

namespace rft {
namespace {

constexpr size_t kMaxAnswer = 200;  // characters that are an answer without a box around them
constexpr size_t kMaxElements = 32;
constexpr double kRounding = 1e-6;  // math-verify compares decimals to 6 places

std::string_view Stripped(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

// Without what surrounds mathematics in a text, and a full stop behind it.
std::string_view WithoutDelimiters(std::string_view text) {
  text = Stripped(text);
  if (text.ends_with('.') && !text.ends_with(".."))
    text = Stripped(text.substr(0, text.size() - 1));
  for (const auto& [open, close] : {std::pair<std::string_view, std::string_view>{"$$", "$$"},
                                    {"$", "$"},
                                    {"\\(", "\\)"},
                                    {"\\[", "\\]"}}) {
    if (text.size() <= open.size() + close.size() || !text.starts_with(open) ||
        !text.ends_with(close))
      continue;
    const std::string_view inside =
        text.substr(open.size(), text.size() - open.size() - close.size());
    if (inside.find(open) != std::string_view::npos || inside.ends_with('\\')) continue;
    return Stripped(inside);
  }
  return text;
}

// The content of the braces whose opening one is at `open`; nullopt: they don't close.
std::optional<std::string_view> Braced(std::string_view text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '{') {
      ++depth;
    } else if (text[i] == '}' && --depth == 0) {
      return text.substr(open + 1, i - open - 1);
    }
  }
  return std::nullopt;
}

struct Element {
  MathExpression number;
  int infinity = 0;  // -1 or 1: not a number
};

// One value, or several between brackets (or none, for a list).
struct Answer {
  enum class Kind { kValue, kBracketed, kSet } kind = Kind::kValue;
  char open = 0, close = 0;
  std::vector<Element> elements;
  std::string variable;  // of "x = "
};

std::optional<Element> ReadElement(std::string_view text) {
  text = Stripped(text);
  if (text == "\\infty" || text == "+\\infty") return Element{{}, 1};
  if (text == "-\\infty") return Element{{}, -1};
  std::optional<MathExpression> parsed = ParseMathExpression(text);
  if (!parsed.has_value()) return std::nullopt;
  return Element{*std::move(parsed), 0};
}

// Where `text` has commas outside of brackets that don't separate thousands.
std::vector<std::string_view> SplitElements(std::string_view text) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t begin = 0;
  const auto digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '(' || c == '{' || c == '[') ++depth;
    if (c == ')' || c == '}' || c == ']') --depth;
    const bool thousands =
        i > 0 && digit(i - 1) && digit(i + 1) && digit(i + 2) && digit(i + 3) && !digit(i + 4);
    if (c != ',' || depth != 0 || thousands) continue;
    parts.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::optional<Answer> ReadAnswer(std::string_view text) {
  Answer answer;
  text = WithoutDelimiters(text);
  if (const size_t equals = text.find('='); equals != std::string_view::npos) {
    const std::string_view name = Stripped(text.substr(0, equals));
    if (name.size() != 1 || !((name[0] | 32) >= 'a' && (name[0] | 32) <= 'z')) return std::nullopt;
    if (text.find('=', equals + 1) != std::string_view::npos) return std::nullopt;
    answer.variable = std::string(name);
    text = Stripped(text.substr(equals + 1));
  }
  std::string plain = SimplifyLatex(text);
  std::string_view inside = plain;
  if (inside.size() >= 2) {
    const std::string_view both[] = {"()", "[]", "(]", "[)"};
    const char ends[] = {inside.front(), inside.back()};
    bool bracketed =
        std::find(std::begin(both), std::end(both), std::string_view(ends, 2)) != std::end(both);
    // "(1+2)(3+4)" begins and ends with a bracket, too.
    int depth = 0;
    for (size_t i = 0; i + 1 < inside.size() && bracketed; ++i) {
      if (inside[i] == '(' || inside[i] == '[') ++depth;
      if (inside[i] == ')' || inside[i] == ']') --depth;
      bracketed = depth > 0;
    }
    if (inside.starts_with("\\{") && inside.ends_with("\\}")) {
      answer.kind = Answer::Kind::kSet;
      inside = inside.substr(2, inside.size() - 4);
    } else if (bracketed && SplitElements(inside.substr(1, inside.size() - 2)).size() > 1) {
      answer.kind = Answer::Kind::kBracketed;
      answer.open = ends[0], answer.close = ends[1];
      inside = inside.substr(1, inside.size() - 2);
    }
  }
  const std::vector<std::string_view> parts = SplitElements(inside);
  if (parts.size() > kMaxElements) return std::nullopt;
  if (parts.size() > 1 && answer.kind == Answer::Kind::kValue) answer.kind = Answer::Kind::kSet;
  if (parts.size() == 1 && answer.kind == Answer::Kind::kSet) answer.kind = Answer::Kind::kValue;
  for (const std::string_view part : parts) {
    std::optional<Element> element = ReadElement(part);
    if (!element.has_value()) return std::nullopt;
    answer.elements.push_back(*std::move(element));
  }
  return answer;
}

// To 6 places; nullopt where the next digit is too close to call.
std::optional<int64_t> Rounded(double value) {
  const double scaled = value / kRounding;
  if (std::abs(scaled) > 1e14 || std::abs(scaled - std::floor(scaled) - 0.5) < 0.01)
    return std::nullopt;
  return std::llround(scaled);
}

// Both have the same letters and are not equal.
MathVerdict CompareUnequal(const MathExpression& a, const MathExpression& b) {
  const bool decimal = a.decimal || b.decimal;
  const std::optional<double> x = a.value.AsNumber(), y = b.value.AsNumber();
  if (!x.has_value() || !y.has_value())
    return decimal ? MathVerdict::kUndecided : MathVerdict::kDifferent;
  const double least = decimal ? 1.01 * kRounding : 1e-9 * std::max(std::abs(*x), std::abs(*y));
  if (std::abs(*x - *y) > least) return MathVerdict::kDifferent;
  // math-verify rounds where one side is just a decimal number.
  if (!(a.decimal && a.literal) && !(b.decimal && b.literal)) return MathVerdict::kUndecided;
  const std::optional<int64_t> p = Rounded(*x), q = Rounded(*y);
  if (!p.has_value() || !q.has_value()) return MathVerdict::kUndecided;
  return *p == *q ? MathVerdict::kEqual : MathVerdict::kDifferent;
}

MathVerdict CompareNumbers(const MathExpression& a, const MathExpression& b) {
  if (a.percent || b.percent) {
    const std::optional<Rational> x = a.value.AsRational(), y = b.value.AsRational();
    if (!x.has_value() || !y.has_value()) return MathVerdict::kUndecided;
    // math-verify: 9% is 9 as well as 0.09.
    if (x->denominator == 1 && y->denominator == 1 && !a.decimal && !b.decimal)
      return *x == *y ? MathVerdict::kEqual : MathVerdict::kDifferent;
    const auto hundredth = [](MathExpression e) {
      const std::optional<MathValue> value =
          e.percent ? Divide(e.value, MathValue::Whole(100)) : e.value;
      e.percent = !value.has_value();
      if (value.has_value()) e.value = *value;
      return e;
    };
    const MathExpression p = hundredth(a), q = hundredth(b);
    return p.percent || q.percent ? MathVerdict::kUndecided : CompareNumbers(p, q);
  }
  const std::optional<bool> equal = Equal(a.value, b.value);
  if (!equal.has_value()) return MathVerdict::kUndecided;
  if (*equal) return MathVerdict::kEqual;
  // A letter that only one side has may be a unit or a name.
  if (a.value.Letters() != b.value.Letters()) return MathVerdict::kUndecided;
  return CompareUnequal(a, b);
}

MathVerdict CompareElements(const Element& a, const Element& b) {
  if (a.infinity == 0 && b.infinity == 0) return CompareNumbers(a.number, b.number);
  return a.infinity == b.infinity ? MathVerdict::kEqual : MathVerdict::kDifferent;
}

// In the order given.
MathVerdict CompareInOrder(const Answer& a, const Answer& b) {
  MathVerdict verdict = MathVerdict::kEqual;
  for (size_t i = 0; i < a.elements.size(); ++i) {
    const MathVerdict one = CompareElements(a.elements[i], b.elements[i]);
    if (one == MathVerdict::kDifferent) return one;
    if (one == MathVerdict::kUndecided) verdict = one;
  }
  return verdict;
}

bool HasTwins(const Answer& set) {
  for (size_t i = 0; i < set.elements.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (CompareElements(set.elements[i], set.elements[j]) != MathVerdict::kDifferent) return true;
    }
  }
  return false;
}

MathVerdict CompareSets(const Answer& a, const Answer& b) {
  std::vector<bool> taken(b.elements.size(), false);
  bool undecided = false, missing = false;
  for (const Element& wanted : a.elements) {
    bool found = false;
    for (size_t j = 0; j < b.elements.size() && !found; ++j) {
      if (taken[j]) continue;
      const MathVerdict one = CompareElements(wanted, b.elements[j]);
      undecided = undecided || one == MathVerdict::kUndecided;
      found = one == MathVerdict::kEqual;
      if (found) taken[j] = true;
    }
    missing = missing || !found;
  }
  if (!missing && a.elements.size() == b.elements.size()) return MathVerdict::kEqual;
  // An element written twice counts once in a set.
  return undecided || HasTwins(a) || HasTwins(b) ? MathVerdict::kUndecided
                                                 : MathVerdict::kDifferent;
}

// A name: letters only, in \text{} or not. Empty: something else.
std::string_view Word(std::string_view text, bool* in_text) {
  text = WithoutDelimiters(text);
  *in_text = false;
  for (const std::string_view command : {std::string_view("\\text{"), std::string_view("\\mathrm{"),
                                         std::string_view("\\textbf{")}) {
    if (!text.starts_with(command) || !text.ends_with('}')) continue;
    text = Stripped(text.substr(command.size(), text.size() - command.size() - 1));
    *in_text = true;
    break;
  }
  const auto letter = [](char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; };
  return std::all_of(text.begin(), text.end(), letter) ? text : std::string_view();
}

// Names are compared without regard to case; letters that stand side by side may be a product of variables.
MathVerdict CompareWords(std::string_view expected, std::string_view answer) {
  bool a_in_text = false, b_in_text = false;
  const auto lower = [](std::string_view word) {
    std::string text(word);
    for (char& c : text) c = static_cast<char>(c | 32);
    return text;
  };
  std::string a = lower(Word(expected, &a_in_text)), b = lower(Word(answer, &b_in_text));
  if (a.empty() || b.empty()) return MathVerdict::kUndecided;
  if (a == b) return MathVerdict::kEqual;
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b ? MathVerdict::kUndecided : MathVerdict::kDifferent;
}

}  // namespace

std::optional<std::string_view> FindMathAnswer(std::string_view text) {
  for (const std::string_view command : {std::string_view("\\boxed"), std::string_view("\\fbox")}) {
    const size_t box = text.rfind(command);
    if (box == std::string_view::npos) continue;
    const size_t open = text.find_first_not_of(' ', box + command.size());
    if (open == std::string_view::npos || text[open] != '{') return std::nullopt;
    return Braced(text, open);
  }
  text = Stripped(text);
  if (text.empty() || text.size() > kMaxAnswer || text.find('\n') != std::string_view::npos)
    return std::nullopt;
  return WithoutDelimiters(text);
}

MathVerdict CompareMath(std::string_view expected_text, std::string_view answer_text) {
  if (answer_text.size() > 4 * kMaxAnswer || expected_text.size() > 4 * kMaxAnswer)
    return MathVerdict::kUndecided;
  if (Stripped(expected_text).empty()) return MathVerdict::kUndecided;
  if (Stripped(answer_text) == Stripped(expected_text)) return MathVerdict::kEqual;
  if (const MathVerdict words = CompareWords(expected_text, answer_text);
      words != MathVerdict::kUndecided)
    return words;
  const std::optional<Answer> expected = ReadAnswer(expected_text);
  const std::optional<Answer> answer = ReadAnswer(answer_text);
  if (!expected.has_value() || !answer.has_value()) return MathVerdict::kUndecided;
  if (!expected->variable.empty() && !answer->variable.empty() &&
      expected->variable != answer->variable)
    return MathVerdict::kUndecided;
  if (expected->kind != answer->kind) return MathVerdict::kUndecided;
  if (expected->kind == Answer::Kind::kSet) return CompareSets(*expected, *answer);
  if (expected->elements.size() != answer->elements.size()) return MathVerdict::kDifferent;
  const MathVerdict verdict = CompareInOrder(*expected, *answer);
  if (expected->open == answer->open && expected->close == answer->close) return verdict;
  return expected->elements.size() == 2 ? MathVerdict::kDifferent : MathVerdict::kUndecided;
}

}  // namespace rft
