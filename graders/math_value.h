// Exact values of school mathematics: quotients of polynomials whose coefficients are rational numbers, square roots of whole
// numbers and powers of pi. Two of them are equal or not; nothing is rounded.
//
//   sqrt(8) / 2 == sqrt(2)      (x + 1)^2 == x^2 + 2 x + 1      1 / (1 + sqrt(2)) == sqrt(2) - 1
//
// Operations fail (nullopt) instead of growing without bound: numerators and denominators are 64-bit, sums have at most 64
// terms, exponents stay within 32. std only; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>

namespace rft {

struct Rational {
  int64_t numerator = 0;
  int64_t denominator = 1;  // > 0, no common factor
  bool operator==(const Rational&) const = default;
};

// sqrt(radicand) * pi^pi_power * letters; `letters` sorted, one per factor: "aab" is a^2 b. radicand is squarefree.
struct Monomial {
  int64_t radicand = 1;
  int pi_power = 0;
  std::string letters;
  auto operator<=>(const Monomial&) const = default;
};

class MathValue {
 public:
  using Sum = std::map<Monomial, Rational>;  // no zero coefficients

  MathValue() = default;  // 0
  static MathValue Whole(int64_t value);
  static MathValue Letter(char letter);
  static MathValue Pi();

  friend std::optional<MathValue> Add(const MathValue& a, const MathValue& b);
  friend std::optional<MathValue> Multiply(const MathValue& a, const MathValue& b);
  friend std::optional<MathValue> Divide(const MathValue& a,
                                         const MathValue& b);  // nullopt also for b = 0
  friend std::optional<MathValue> Power(const MathValue& a, int exponent);
  friend std::optional<MathValue> SquareRoot(const MathValue& a);  // of rational numbers >= 0
  friend std::optional<bool> Equal(const MathValue& a, const MathValue& b);

  std::optional<Rational> AsRational() const;
  std::optional<double> AsNumber() const;  // nullopt if there are letters
  std::string Letters() const;             // those that occur, sorted, each once

 private:
  Sum numerator_;
  Sum denominator_ = {{Monomial(), Rational{1, 1}}};
};

}  // namespace rft
