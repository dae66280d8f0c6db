/* Price and derivatives of European calls. With -Ofast GCC vectorises the calls of libm. */
#include <math.h>

void black_scholes(long n, const double *restrict s, const double *restrict k,
                   const double *restrict t, const double *restrict r, const double *restrict v,
                   double *restrict price, double *restrict by_s, double *restrict by_k,
                   double *restrict by_t, double *restrict by_r, double *restrict by_v)
{
    for (long i = 0; i < n; i++) {
        double root_t = sqrt(t[i]), root = v[i] * root_t;
        double d1 = (log(s[i] / k[i]) + (r[i] + 0.5 * v[i] * v[i]) * t[i]) / root;
        double d2 = d1 - root;
        double delta = 0.5 + 0.5 * erf(d1 * M_SQRT1_2), cdf2 = 0.5 + 0.5 * erf(d2 * M_SQRT1_2);
        double discount = exp(-r[i] * t[i]);
        double density = exp(-0.5 * d1 * d1) * s[i] * 0.3989422804014327;
        double held = k[i] * discount * cdf2;
        price[i] = s[i] * delta - held;
        by_s[i] = delta;
        by_k[i] = -discount * cdf2;
        by_t[i] = density * v[i] / (2 * root_t) + r[i] * held;
        by_r[i] = t[i] * held;
        by_v[i] = density * root_t;
    }
}
