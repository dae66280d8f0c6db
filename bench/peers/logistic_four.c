/* W2a by hand: what the chain of a step's operations costs when nothing else does. Data, parameters
 * and gradient never leave registers, the four samples are the lanes of one vector, and the loss is
 * beside the chain that a step waits for: dot products, exponential, quotient, sums, update. */

typedef float v4 __attribute__((vector_size(16)));
typedef int i4 __attribute__((vector_size(16)));

#define ALL(x) ((v4){(x), (x), (x), (x)})
#define LANE(x, i) __builtin_shuffle((x), (i4){i, i, i, i})

static inline v4 choose(i4 mask, v4 yes, v4 no) {
  return (v4)((mask & (i4)yes) | (~mask & (i4)no));
}

/* Of x from -87 to 0: 2^n times a polynomial. */
static inline v4 exponential(v4 x) {
  i4 n = __builtin_convertvector(x * 1.44269504f - 0.5f, i4);
  v4 r = x - __builtin_convertvector(n, v4) * 0.693147181f, r2 = r * r;
  v4 p = (1.0f + r) + r2 * ((0.5f + 0.1666654f * r) + r2 * (0.0416664f + 0.0083690f * r));
  return (v4)((i4)p + (n << 23));
}

/* log(1 + e) of e from 0 to 1, by the series of atanh. */
static inline v4 log_one_plus(v4 e) {
  v4 s = e / (2.0f + e), t = s * s, p = ALL(1.0f / 15);
  for (int k = 13; k > 0; k -= 2) p = p * t + 1.0f / k;
  return 2.0f * s * p;
}

/* w[4], b[1], x[4][4], y[4], losses[steps] */
void logistic_four(long steps, float *w_, float *b_, const float *x, const float *y_,
                   const float *rate, float *losses) {
  v4 w = {w_[0], w_[1], w_[2], w_[3]}, y = {y_[0], y_[1], y_[2], y_[3]}, row[4], column[4];
  v4 b = ALL(*b_), zero = ALL(0.0f), scale = ALL(*rate / -4);
  for (int i = 0; i < 4; i++) {
    row[i] = (v4){x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]};
    column[i] = (v4){x[i], x[4 + i], x[8 + i], x[12 + i]};
  }
  for (long step = 0; step < steps; step++) {
    v4 z = (LANE(w, 0) * column[0] + (LANE(w, 1) * column[1] + b)) +
           (LANE(w, 2) * column[2] + LANE(w, 3) * column[3]);
    v4 low = choose(z < zero, z, -z);
    v4 e = exponential(choose(low > ALL(-87.0f), low, ALL(-87.0f)));
    v4 delta = scale * (choose(z < zero, e, ALL(1.0f)) / (1.0f + e) - y);
    v4 loss = choose(z > zero, z, zero) - y * z + log_one_plus(e);
    losses[step] = (loss[0] + loss[1] + loss[2] + loss[3]) / 4;
    w = (LANE(delta, 0) * row[0] + (LANE(delta, 1) * row[1] + w)) +
        (LANE(delta, 2) * row[2] + LANE(delta, 3) * row[3]);
    b += (LANE(delta, 0) + LANE(delta, 1)) + (LANE(delta, 2) + LANE(delta, 3));
  }
  for (int i = 0; i < 4; i++) w_[i] = w[i];
  *b_ = b[0];
}
