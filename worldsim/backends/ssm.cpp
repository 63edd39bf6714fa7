// One tick of the Mamba-2 recurrence, in one pass over the state:
//
//     h' = exp(dt a) h + dt x (outer) b        y = h' c
//
// rows B, heads H, features E, state size N; h, h' (B, H, E, N), x and y (B, H, E), b and c (B, N),
// dt (B, H), a (H,). float32, contiguous, no two of them the same memory.
#include <cmath>
#include <cstdint>

extern "C" void worldsim_ssm_update(const float *__restrict x, const float *__restrict b,
                                    const float *__restrict c, const float *__restrict dt,
                                    const float *__restrict a, const float *__restrict h,
                                    float *__restrict y, float *__restrict next, int64_t rows,
                                    int64_t heads, int64_t features, int64_t size) {
    for (int64_t row = 0; row < rows; ++row) {
        const float *write = b + row * size, *read = c + row * size;
        for (int64_t head = 0; head < heads; ++head) {
            const int64_t unit = row * heads + head;
            const float decay = std::exp(dt[unit] * a[head]);
            for (int64_t e = unit * features; e < (unit + 1) * features; ++e) {
                const float *old = h + e * size;
                float *fresh = next + e * size;
                const float value = dt[unit] * x[e];
                float sum = 0.0f;
                for (int64_t n = 0; n < size; ++n) {
                    fresh[n] = decay * old[n] + value * write[n];
                    sum += fresh[n] * read[n];
                }
                y[e] = sum;
            }
        }
    }
}
