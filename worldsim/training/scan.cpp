// The memory's recurrence over a chunk of ticks, forward and backward, tick after tick while the
// state of a head lies in the cache (dynamics/ssm.py has the equation):
//
//     h[t] = exp(dt[t] a) h[t-1] + dt[t] x[t] (outer) b[t]        y[t] = h[t] c[t]
//
// x and y (B, T, H, E), b and c (B, T, N), dt (B, T, H), a (H,), states (B, H, E, N); float32,
// contiguous; N is a multiple of 16.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

typedef float Lanes __attribute__((vector_size(64)));
constexpr int64_t WIDE = 16;

inline Lanes load(const float *from) {
    Lanes x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
inline void store(float *to, Lanes x) { std::memcpy(to, &x, sizeof x); }
inline float sum(Lanes x) {
    float total = 0;
    for (int i = 0; i < WIDE; ++i) total += x[i];
    return total;
}

// One tick of one head: old state -> next one, and what is read from it.
inline void tick(const float *x, const float *b, const float *c, float dt, float decay,
                 const float *old, float *next, float *y, int64_t features, int64_t size) {
    for (int64_t e = 0; e < features; ++e) {
        const float written = dt * x[e];
        Lanes read = {};
        for (int64_t n = 0; n < size; n += WIDE) {
            const Lanes h = decay * load(old + e * size + n) + written * load(b + n);
            store(next + e * size + n, h);
            read += h * load(c + n);
        }
        y[e] = sum(read);
    }
}

}  // namespace

extern "C" {

void worldsim_scan(const float *x, const float *b, const float *c, const float *dt, const float *a,
                   const float *state, float *y, float *after, int64_t batch, int64_t ticks,
                   int64_t heads, int64_t features, int64_t size) {
    const int64_t matrix = features * size;
    for (int64_t i = 0; i < batch; ++i)
        for (int64_t h = 0; h < heads; ++h) {
            float *kept = after + (i * heads + h) * matrix;
            std::copy_n(state + (i * heads + h) * matrix, matrix, kept);
            for (int64_t t = 0; t < ticks; ++t) {
                const int64_t at = (i * ticks + t) * heads + h, shared = (i * ticks + t) * size;
                tick(x + at * features, b + shared, c + shared, dt[at], std::exp(dt[at] * a[h]),
                     kept, kept, y + at * features, features, size);
            }
        }
}

// gradients of y and of the last state -> of x, b, c, dt and a; those of b, c and a are zeros before
void worldsim_scan_backward(const float *x, const float *b, const float *c, const float *dt,
                            const float *a, const float *state, const float *given,
                            const float *given_after, float *dx, float *db, float *dc, float *ddt,
                            float *da, int64_t batch, int64_t ticks, int64_t heads,
                            int64_t features, int64_t size) {
    const int64_t matrix = features * size;
    std::vector<float> states((ticks + 1) * matrix), slope(matrix), unused(features);
    for (int64_t i = 0; i < batch; ++i)
        for (int64_t h = 0; h < heads; ++h) {
            std::copy_n(state + (i * heads + h) * matrix, matrix, states.data());
            for (int64_t t = 0; t < ticks; ++t) {
                const int64_t at = (i * ticks + t) * heads + h, shared = (i * ticks + t) * size;
                tick(x + at * features, b + shared, c + shared, dt[at], std::exp(dt[at] * a[h]),
                     states.data() + t * matrix, states.data() + (t + 1) * matrix, unused.data(),
                     features, size);
            }
            std::copy_n(given_after + (i * heads + h) * matrix, matrix, slope.data());
            double of_rate = 0;
            for (int64_t t = ticks - 1; t >= 0; --t) {
                const int64_t at = (i * ticks + t) * heads + h, shared = (i * ticks + t) * size;
                const float step = dt[at], decay = std::exp(step * a[h]);
                const float *before = states.data() + t * matrix, *now = before + matrix;
                const float *in = x + at * features, *dy = given + at * features;
                float of_step = 0;
                Lanes of_decay = {};
                for (int64_t e = 0; e < features; ++e) {
                    Lanes of_written = {};
                    for (int64_t n = 0; n < size; n += WIDE) {
                        const int64_t cell = e * size + n;
                        const Lanes g = load(slope.data() + cell) + dy[e] * load(c + shared + n);
                        store(dc + shared + n, load(dc + shared + n) + dy[e] * load(now + cell));
                        store(db + shared + n, load(db + shared + n) + (step * in[e]) * g);
                        of_written += g * load(b + shared + n);
                        of_decay += g * load(before + cell);
                        store(slope.data() + cell, decay * g);
                    }
                    const float written = sum(of_written);
                    dx[at * features + e] = step * written;
                    of_step += in[e] * written;
                }
                const float of_power = sum(of_decay) * decay;
                ddt[at] = of_step + of_power * a[h];
                of_rate += of_power * step;
            }
            da[h] += static_cast<float>(of_rate);
        }
}
}
