/* The Lorenz equations by Runge and Kutta's method of order 4, by hand: the sum of the squares of
 * the last state, and with it the gradient to the first state and the parameters. */

#define H 0.001

static inline void slope(const double *s, const double *p, double *k) {
  k[0] = p[0] * (s[1] - s[0]);
  k[1] = s[0] * (p[1] - s[2]) - s[1];
  k[2] = s[0] * s[1] - p[2] * s[2];
}

/* ds = J^T dk, and dk^T (df/dp) is added to dp. */
static inline void back(const double *s, const double *p, const double *dk, double *ds, double *dp) {
  ds[0] = -p[0] * dk[0] + (p[1] - s[2]) * dk[1] + s[1] * dk[2];
  ds[1] = p[0] * dk[0] - dk[1] + s[0] * dk[2];
  ds[2] = -s[0] * dk[1] - p[2] * dk[2];
  dp[0] += (s[1] - s[0]) * dk[0];
  dp[1] += s[0] * dk[1];
  dp[2] -= s[2] * dk[2];
}

static inline void stages(const double *s, const double *p, double k[4][3], double at[3][3]) {
  const double h[3] = {H / 2, H / 2, H};
  slope(s, p, k[0]);
  for (int j = 0; j < 3; j++) {
    for (int i = 0; i < 3; i++) at[j][i] = s[i] + h[j] * k[j][i];
    slope(at[j], p, k[j + 1]);
  }
}

static inline void step(double *s, const double *p) {
  double k[4][3], at[3][3];
  stages(s, p, k, at);
  for (int i = 0; i < 3; i++) s[i] += H / 6 * (k[0][i] + 2 * k[1][i] + 2 * k[2][i] + k[3][i]);
}

/* start[3], parameters[3], value[1] */
void lorenz_value(long steps, const double *start, const double *p_, double *value) {
  double s[3] = {start[0], start[1], start[2]}, p[3] = {p_[0], p_[1], p_[2]};
  for (long t = 0; t < steps; t++) step(s, p);
  *value = s[0] * s[0] + s[1] * s[1] + s[2] * s[2];
}

/* start[3], parameters[3], tape[3 * steps], results[7]: value, to the start, to the parameters */
void lorenz_gradient(long steps, const double *start, const double *p_, double *tape, double *results) {
  double s[3] = {start[0], start[1], start[2]}, p[3] = {p_[0], p_[1], p_[2]};
  double d[3], dp[3] = {0, 0, 0};
  for (long t = 0; t < steps; t++) {
    for (int i = 0; i < 3; i++) tape[3 * t + i] = s[i];
    step(s, p);
  }
  results[0] = s[0] * s[0] + s[1] * s[1] + s[2] * s[2];
  for (int i = 0; i < 3; i++) d[i] = 2 * s[i];
  for (long t = steps - 1; t >= 0; t--) {
    double k[4][3], at[3][3], dk[3], ds[3];
    const double *now = tape + 3 * t;
    double sum[3] = {d[0], d[1], d[2]};
    stages(now, p, k, at);
    for (int i = 0; i < 3; i++) dk[i] = H / 6 * d[i];
    back(at[2], p, dk, ds, dp);
    for (int i = 0; i < 3; i++) sum[i] += ds[i], dk[i] = H / 3 * d[i] + H * ds[i];
    back(at[1], p, dk, ds, dp);
    for (int i = 0; i < 3; i++) sum[i] += ds[i], dk[i] = H / 3 * d[i] + H / 2 * ds[i];
    back(at[0], p, dk, ds, dp);
    for (int i = 0; i < 3; i++) sum[i] += ds[i], dk[i] = H / 6 * d[i] + H / 2 * ds[i];
    back(now, p, dk, ds, dp);
    for (int i = 0; i < 3; i++) d[i] = sum[i] + ds[i];
  }
  for (int i = 0; i < 3; i++) results[1 + i] = d[i], results[4 + i] = dp[i];
}
