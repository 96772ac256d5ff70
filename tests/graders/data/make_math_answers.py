r"""Writes math_answers_golden.json: pairs (expected, answer) and what math-verify says about them.

    pip install math-verify==0.9.0
    python tests/graders/data/make_math_answers.py
"""

from __future__ import annotations

import json
from pathlib import Path

from math_verify import parse, verify

# The first of each line is the expected answer; before "|" come other spellings of it, behind it other values. Nothing is
# assumed about either: the verdict is math-verify's.
LINES = r"""
5 ;; 5.0 ;; +5 ;; 05 ;; 5.00 ;; x=5 ;; \text{5} ;; \frac{10}{2} ;; 2+3 ;; \sqrt{25} ;; (5) ;; {5} ;; 5\text{ cm} ;; 5 \mathrm{kg} ;; \$5 ;; 5^\circ ;; 5. | 6 ;; -5 ;; 5.1 ;; 0.5 ;; 55 ;; \frac{5}{2} ;; x=6 ;; 5\%
-3 ;; -3.0 ;; −3 ;; - 3 ;; \frac{-6}{2} ;; -\frac{6}{2} ;; 1-4 ;; x = -3 ;; (-3) | 3 ;; -4 ;; -0.3 ;; \frac{1}{-3}
1/2 ;; \frac{1}{2} ;; \frac12 ;; \dfrac{1}{2} ;; 0.5 ;; .5 ;; 0.50 ;; 2/4 ;; \frac{2}{4} ;; 50\% ;; \tfrac{3}{6} ;; 2^{-1} ;; {1}/{2} ;; \left(\frac{1}{2}\right) | 1/3 ;; 0.51 ;; 2 ;; -\frac12 ;; 5\% ;; 0.500001
\frac{1}{3} ;; 1/3 ;; 0.333333 ;; 0.3333333333 ;; \frac{2}{6} ;; -\frac{-1}{3} | 0.33 ;; 0.333 ;; 0.334 ;; 1/4 ;; 3 ;; 0.3
-\frac{7}{4} ;; \frac{-7}{4} ;; \frac{7}{-4} ;; -1.75 ;; -7/4 ;; -1\frac{3}{4} | \frac{7}{4} ;; 1.75 ;; -\frac{4}{7} ;; -1.7
3\frac{1}{2} ;; \frac{7}{2} ;; 3.5 ;; 7/2 ;; 3 \frac{1}{2} | \frac{3}{2} ;; 31/2 ;; 3.25
1234 ;; 1,234 ;; 1{,}234 ;; 1234.0 ;; 1\,234 ;; \$1,234 ;; 1234\text{ meters} | 1,235 ;; 123 ;; 12,34 ;; 1.234
1234567 ;; 1,234,567 ;; 1{,}234{,}567 ;; 1234567.00 | 1,234,576 ;; 1234
0.25 ;; \frac{1}{4} ;; 25\% ;; 1/4 ;; .25 ;; 0.250 ;; 2.5\times10^{-1} | 0.2 ;; 0.26 ;; 25 ;; \frac{1}{5}
50\% ;; 50 \% ;; 0.5 ;; 50 ;; \frac{1}{2} ;; 50.0\% | 51\% ;; 5\% ;; 0.05 ;; 500
12.5\% ;; 0.125 ;; \frac{1}{8} | 12.5 ;; 0.0125 ;; 12\%
3.14 ;; 3.140 ;; \frac{157}{50} ;; 3.14\text{ cm} | \pi ;; 3.1 ;; 3.15 ;; 3.14159
\pi ;; 1\pi ;; \frac{2\pi}{2} ;; \pi \cdot 1 | 2\pi ;; 3.14 ;; -\pi ;; \pi^2 ;; \frac{\pi}{2}
\frac{3\pi}{4} ;; \frac{3}{4}\pi ;; 3\pi/4 ;; 0.75\pi ;; \frac{6 \pi}{8} ;; \pi\cdot\frac{3}{4} | \frac{4\pi}{3} ;; \frac{3}{4} ;; 2.35 ;; \frac{3\pi}{2}
\sqrt{2} ;; \sqrt2 ;; \frac{2}{\sqrt{2}} ;; \frac{\sqrt{8}}{2} ;; \sqrt{\frac{8}{4}} ;; 2^{1/2} ;; 1.4142135623731 | \sqrt{3} ;; 2 ;; 1.41 ;; -\sqrt{2} ;; \frac{1}{\sqrt{2}}
2\sqrt{3} ;; \sqrt{12} ;; \sqrt{3}\cdot 2 ;; \frac{6}{\sqrt{3}} ;; 2 \sqrt 3 ;; \sqrt{3}+\sqrt{3} | 3\sqrt{2} ;; 12 ;; \sqrt{6} ;; 3.46
\frac{\sqrt{3}}{2} ;; \sqrt{3}/2 ;; \sqrt{\frac{3}{4}} ;; \frac{1}{2}\sqrt{3} ;; \frac{3}{2\sqrt{3}} | \frac{\sqrt{2}}{2} ;; \frac{3}{2} ;; \frac{\sqrt{3}}{4}
\frac{1+\sqrt{5}}{2} ;; \frac{\sqrt{5}+1}{2} ;; \frac{1}{2}+\frac{\sqrt{5}}{2} ;; (1+\sqrt{5})/2 ;; \frac{2}{\sqrt{5}-1} | \frac{1-\sqrt{5}}{2} ;; 1.618 ;; \frac{\sqrt{5}}{2}
3+2\sqrt{2} ;; 2\sqrt{2}+3 ;; (1+\sqrt{2})^2 ;; 3+\sqrt{8} ;; \frac{1}{3-2\sqrt{2}} | 3-2\sqrt{2} ;; 5 ;; 5\sqrt{2} ;; 2+3\sqrt{2}
2^{10} ;; 1024 ;; 4^5 ;; 2^{9}\cdot 2 ;; 32^2 | 1000 ;; 2^{11} ;; 20 ;; 1023
10^{-3} ;; 0.001 ;; \frac{1}{1000} ;; 1\times 10^{-3} | 0.01 ;; 10^3 ;; -1000
1.2\times10^{3} ;; 1200 ;; 1.2 \cdot 10^3 ;; 12\times 10^2 | 120 ;; 1.2 ;; 12000
x^2+2x+1 ;; (x+1)^2 ;; 1+2x+x^2 ;; (x+1)(x+1) ;; x^{2}+2 x+1 ;; x(x+2)+1 | x^2+2x ;; x^2+1 ;; (x-1)^2 ;; x^2-2x+1
2x+3 ;; 3+2x ;; 2(x+1)+1 ;; 2\cdot x+3 ;; x+x+3 | 2x-3 ;; 3x+2 ;; 2x ;; 5x
\frac{x+1}{2} ;; \frac{1}{2}(x+1) ;; \frac{x}{2}+\frac{1}{2} ;; (x+1)/2 | \frac{x}{2}+1 ;; x+\frac{1}{2} ;; \frac{x-1}{2}
\frac{1}{x} ;; x^{-1} ;; 1/x ;; \frac{2}{2x} | x ;; -\frac{1}{x} ;; \frac{1}{x^2}
\frac{x^2-1}{x-1} ;; x+1 ;; 1+x | x-1 ;; x
ab ;; ba ;; a \cdot b ;; a b | a+b ;; ac ;; a
2ab^2 ;; 2b^2a ;; 2 a b^{2} ;; ab\cdot 2b | 2a^2b ;; 2ab
x=5 ;; 5 ;; x = 5.0 ;; x=\frac{10}{2} | x=6 ;; y=5 ;; 6
y=2x+1 ;; y = 1+2x ;; 2x+1 | y=2x-1 ;; y=x+1
(1,2) ;; (1, 2) ;; \left(1,2\right) ;; (1.0,2) ;; (\frac{2}{2}, 2) ;; ( 1 , 2 ) ;; 1,2 | (2,1) ;; (1,3) ;; [1,2] ;; (1,2] ;; (1,2,3) ;; \{1,2\}
(1,2,3) ;; (1, 2, 3) ;; \left( 1, 2, \frac{6}{2} \right) | (3,2,1) ;; (1,2) ;; (1,2,4) ;; (1,2,3,4)
[0,1] ;; [0, 1] ;; \left[0,1\right] ;; [0,1.0] | (0,1) ;; [0,1) ;; (0,1] ;; [0,2] ;; [1,0]
[0,1) ;; [0, 1) ;; \left[0,1\right) | [0,1] ;; (0,1] ;; (0,1) ;; [0,2)
(-\infty,3] ;; (-\infty, 3] ;; \left(-\infty,3\right] | (-\infty,3) ;; (-\infty,4] ;; [3,\infty)
(-1,\frac{1}{2}] ;; (-1,0.5] ;; (-1, 1/2] | (-1,0.5) ;; (-1,0.6] ;; (1,0.5]
\{1,2,3\} ;; \{3,2,1\} ;; \{1, 2, 3\} ;; \left\{1,2,3\right\} ;; 1,2,3 ;; 3,1,2 ;; \{1,2,3.0\} | \{1,2\} ;; \{1,2,4\} ;; (1,2,3) ;; \{1,2,3,4\} ;; 1,2
-1, 4 ;; 4, -1 ;; \{-1,4\} ;; 4,-1 ;; x=-1,4 | 1,4 ;; -4,1 ;; -1 ;; -1,4,5
\frac{1}{2},\frac{1}{3} ;; \frac{1}{3},\frac{1}{2} ;; 0.5,\frac{1}{3} ;; \{\frac12,\frac13\} | \frac{1}{2},\frac{1}{4} ;; \frac{1}{2}
\{2\} ;; 2 ;; \{ 2 \} | 3 ;; \{3\}
10\text{ cm} ;; 10 ;; 10 cm ;; 10\text{cm} ;; 10.0\mathrm{ cm} ;; 10 \text{ m} | 11\text{ cm} ;; 100\text{ cm} ;; 1
45^\circ ;; 45 ;; 45^{\circ} ;; 45\text{ degrees} ;; 45.0 | 46^\circ ;; 90^\circ ;; -45
\$18.90 ;; 18.90 ;; 18.9 ;; \$18.9 ;; 18.90\text{ dollars} | 18.09 ;; 189 ;; \$19
24\text{ square units} ;; 24 ;; 24\text{ units} | 25 ;; 42
x ;; x | y ;; X ;; 2x ;; 1
A ;; A ;; \text{A} ;; (A) | B ;; C ;; \text{B} ;; a
\text{Evelyn} ;; \text{Evelyn} ;; Evelyn | \text{Bob} ;; Eve
x \le 3 ;; x\leq 3 ;; 3 \ge x | x<3 ;; x \ge 3 ;; x\le 4
1 < x < 2 ;; 1<x<2 ;; (1,2) | 1 \le x \le 2 ;; 1<x<3
\infty ;; \infty | -\infty ;; 0
2+3i ;; 3i+2 ;; 2 + 3 i | 2-3i ;; 3+2i ;; 5
\sin x ;; \sin(x) | \cos x ;; x
e^2 ;; e^{2} ;; e \cdot e | 2e ;; 7.389 ;; e
\log_2 8 ;; 3 | 8 ;; 2
7! ;; 5040 | 7 ;; 49
\sqrt[3]{8} ;; 2 ;; 8^{1/3} | 3 ;; \sqrt{8}
0 ;; 0.0 ;; -0 ;; \frac{0}{5} ;; 1-1 ;; \sqrt{0} | 1 ;; 0.1 ;; 0.0001 ;; 10
100 ;; 10^2 ;; 100.0 ;; 1\times10^2 ;; 100\% | 10 ;; 1000 ;; 1 ;; 99.999
\frac{22}{7} ;; 22/7 ;; 3\frac{1}{7} ;; 3.142857 ;; 3.1428571 | \pi ;; 3.14 ;; 3.143 ;; \frac{7}{22}
6.0221e23 ;; 6.0221\times 10^{23} | 6.0221 ;; 6.0221\times10^{22}
99999999999999999999 ;; 99999999999999999999 | 99999999999999999998 ;; 1
\frac{a}{b} ;; a/b ;; \frac{2a}{2b} ;; a \cdot \frac{1}{b} | \frac{b}{a} ;; ab
x^3-x ;; x(x-1)(x+1) ;; x(x^2-1) ;; -x+x^3 | x^3+x ;; x^2-x
3:4 ;; 3/4 ;; \frac{3}{4} | 4:3
11.5 ;; \frac{23}{2} ;; 11 \frac{1}{2} ;; 23/2 | 11.25 ;; 11 ;; 12
""".strip().splitlines()


def pairs() -> list[tuple[str, str]]:
    made = []
    for line in LINES:
        same, _, other = line.partition(" | ")
        spellings = [text.strip() for text in same.split(";;")]
        others = [text.strip() for text in other.split(";;") if text.strip()]
        made += [(spellings[0], answer) for answer in [*spellings[1:], *others]]
        if len(spellings) > 2:  # the other way round, too: math-verify is not symmetric
            made += [(spellings[2], spellings[1]), (spellings[1], spellings[0])]
        made += [(spellings[1], answer) for answer in others[:2]] if len(spellings) > 1 else []
    return list(dict.fromkeys(made))


def verdict(expected: str, answer: str) -> bool:
    return bool(verify(parse(f"${expected}$"), parse(f"${answer}$")))


def main() -> None:
    cases = [[expected, answer, verdict(expected, answer)] for expected, answer in pairs()]
    text = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_name("math_answers_golden.json").write_text(f'{{"cases": [\n{text}\n]}}\n')
    print(f"{len(cases)} pairs, {sum(case[2] for case in cases)} of them equal")


if __name__ == "__main__":
    main()
