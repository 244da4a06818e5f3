/** Student's t distribution, for estimates over few draws. Pure arithmetic. */

/** P(|T| > |t|) with `freedom` degrees. */
export function twoSided(t: number, freedom: number): number {
  if (!Number.isFinite(t)) return 0;
  return incompleteBeta(freedom / (freedom + t * t), freedom / 2, 0.5);
}

/** The t that |T| exceeds with probability alpha. */
export function quantileOf(alpha: number, freedom: number): number {
  let low = 0;
  let high = 1;
  while (twoSided(high, freedom) > alpha && high < 1e12) high *= 2;
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2;
    if (twoSided(middle, freedom) > alpha) low = middle;
    else high = middle;
  }
  return high;
}

/** Regularised, by its continued fraction (Numerical Recipes 6.4). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x));
  return x < (a + 1) / (a + b + 2)
    ? (front * fraction(x, a, b)) / a
    : 1 - (front * fraction(1 - x, b, a)) / b;
}

function fraction(x: number, a: number, b: number): number {
  const tiny = 1e-300;
  const away = (value: number) => (Math.abs(value) < tiny ? tiny : value);
  let c = 1;
  let d = 1 / away(1 - ((a + b) * x) / (a + 1));
  let h = d;
  for (let m = 1; m <= 500; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away(1 + even * d);
    c = away(1 + even / c);
    h *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away(1 + odd * d);
    c = away(1 + odd / c);
    const step = d * c;
    h *= step;
    if (Math.abs(step - 1) < 1e-13) break;
  }
  return h;
}

/** Lanczos. */
function logGamma(x: number): number {
  const terms = [
    ...[76.18009172947146, -86.50532032941678, 24.01409824083091],
    ...[-1.231739572450155, 0.001208650973866179, -0.000005395239384953],
  ];
  const sum = terms.reduce((all, term, i) => all + term / (x + i + 1), 1.000000000190015);
  return Math.log((2.5066282746310007 * sum) / x) + (x + 0.5) * Math.log(x + 5.5) - (x + 5.5);
}
