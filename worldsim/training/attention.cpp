// Attention over the places of a frame with a bias that wants a gradient, in one pass per head:
// torch has no fused kernel for that on a processor. Products are float32, what comes in and goes
// out is bfloat16. attention.py says what is computed.
//
// n frames, S places, H heads, E features of a head; qkv (n, S, 3, H, E), bias (n or 1, H, S, S).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

typedef float Lanes __attribute__((vector_size(64)));
constexpr int64_t WIDE = 32;  // columns are padded to a multiple of this

inline Lanes load(const float *from) {
    Lanes x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
inline void store(float *to, Lanes x) { std::memcpy(to, &x, sizeof x); }

inline float widen(uint16_t half) {
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline uint16_t narrow(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// e^x for x <= 0, to seven digits (after Cephes' expf); 0 where it is next to nothing, since numbers
// near the smallest ones make a processor slow
inline float exponential(float given) {
    const float x = std::max(given, -80.0f);
    const float n = std::floor(x * 1.44269504f + 0.5f);
    const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return given < -80.0f ? 0.0f : (p * r * r + r + 1.0f) * power;
}

// c (rows, columns) = a b, where a(i, k) = a[i * across + k * down], and b (inner, columns)
template <int ROWS>
inline void block(const float *a, int64_t across, int64_t down, const float *b, float *c,
                  int64_t inner, int64_t columns) {
    for (int64_t j = 0; j < columns; j += WIDE) {
        Lanes left[ROWS] = {}, right[ROWS] = {};
        for (int64_t k = 0; k < inner; ++k) {
            const Lanes one = load(b + k * columns + j), two = load(b + k * columns + j + 16);
            for (int i = 0; i < ROWS; ++i) {
                const float x = a[i * across + k * down];
                left[i] += x * one;
                right[i] += x * two;
            }
        }
        for (int i = 0; i < ROWS; ++i) {
            store(c + i * columns + j, left[i]);
            store(c + i * columns + j + 16, right[i]);
        }
    }
}

void product(const float *a, int64_t across, int64_t down, const float *b, float *c, int64_t rows,
             int64_t inner, int64_t columns) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
        block<4>(a + i * across, across, down, b, c + i * columns, inner, columns);
    for (; i < rows; ++i)
        block<1>(a + i * across, across, down, b, c + i * columns, inner, columns);
}

int64_t padded(int64_t x) { return (x + WIDE - 1) / WIDE * WIDE; }

// What one head needs of one frame.
struct Head {
    int64_t places, features, across, deep;  // the last two padded
    std::vector<float> q, k, v, k_by_feature, v_by_feature, chance;
    Head(int64_t s, int64_t e)
        : places(s), features(e), across(padded(s)), deep(padded(e)), q(s * deep), k(s * deep),
          v(s * deep), k_by_feature(e * across), v_by_feature(e * across), chance(s * across) {}

    void read(const uint16_t *qkv, int64_t heads) {
        const int64_t width = heads * features;
        for (int64_t i = 0; i < places; ++i)
            for (int64_t e = 0; e < features; ++e) {
                const uint16_t *at = qkv + i * 3 * width + e;
                q[i * deep + e] = widen(at[0]);
                k[i * deep + e] = k_by_feature[e * across + i] = widen(at[width]);
                v[i * deep + e] = v_by_feature[e * across + i] = widen(at[2 * width]);
            }
    }

    // how much each place looks at each other one, (places, across)
    void look(const float *bias) {
        const float scale = 1.0f / std::sqrt(static_cast<float>(features));
        product(q.data(), deep, 1, k_by_feature.data(), chance.data(), places, features, across);
        for (int64_t i = 0; i < places; ++i) {
            float *row = chance.data() + i * across;
            const float *lean = bias + i * places;
            float highest = -INFINITY, total = 0;
            for (int64_t j = 0; j < places; ++j) {
                row[j] = row[j] * scale + lean[j];
                highest = std::max(highest, row[j]);
            }
            for (int64_t j = 0; j < places; ++j) {
                row[j] = exponential(row[j] - highest);
                total += row[j];
            }
            const float share = 1.0f / total;
            for (int64_t j = 0; j < places; ++j) row[j] *= share;
            std::fill(row + places, row + across, 0.0f);
        }
    }
};

}  // namespace

extern "C" {

// y (n, S, H, E)
void worldsim_attention(const uint16_t *qkv, const float *bias, uint16_t *y, int64_t n,
                        int64_t places, int64_t heads, int64_t features, int64_t biases) {
    const int64_t width = heads * features, square = places * places;
    Head head(places, features);
    std::vector<float> out(places * head.deep);
    for (int64_t i = 0; i < n; ++i)
        for (int64_t h = 0; h < heads; ++h) {
            head.read(qkv + i * places * 3 * width + h * features, heads);
            head.look(bias + ((biases == 1 ? 0 : i) * heads + h) * square);
            product(head.chance.data(), head.across, 1, head.v.data(), out.data(), places, places,
                    head.deep);
            for (int64_t p = 0; p < places; ++p)
                for (int64_t e = 0; e < features; ++e)
                    y[(i * places + p) * width + h * features + e] = narrow(out[p * head.deep + e]);
        }
}

// gradient of y -> of qkv and of bias, which is zeros before
void worldsim_attention_backward(const uint16_t *qkv, const float *bias, const uint16_t *given,
                                 uint16_t *qkv_gradient, float *bias_gradient, int64_t n,
                                 int64_t places, int64_t heads, int64_t features, int64_t biases) {
    const int64_t width = heads * features, square = places * places;
    const float scale = 1.0f / std::sqrt(static_cast<float>(features));
    Head head(places, features);
    const int64_t across = head.across, deep = head.deep;
    std::vector<float> dy(places * deep), dv(places * deep), dq(places * deep), dk(places * deep);
    std::vector<float> ds(places * across);
    for (int64_t i = 0; i < n; ++i)
        for (int64_t h = 0; h < heads; ++h) {
            const int64_t which = ((biases == 1 ? 0 : i) * heads + h) * square;
            head.read(qkv + i * places * 3 * width + h * features, heads);
            head.look(bias + which);
            for (int64_t p = 0; p < places; ++p)
                for (int64_t e = 0; e < features; ++e)
                    dy[p * deep + e] = widen(given[(i * places + p) * width + h * features + e]);
            const float *chance = head.chance.data();
            product(chance, 1, across, dy.data(), dv.data(), places, places, deep);
            product(dy.data(), deep, 1, head.v_by_feature.data(), ds.data(), places, features,
                    across);
            for (int64_t p = 0; p < places; ++p) {
                float *row = ds.data() + p * across;
                const float *mine = chance + p * across;
                float *lean = bias_gradient + which + p * places;
                float mean = 0;
                for (int64_t j = 0; j < places; ++j) mean += row[j] * mine[j];
                for (int64_t j = 0; j < places; ++j) {
                    row[j] = mine[j] * (row[j] - mean);
                    lean[j] += row[j];
                }
            }
            product(ds.data(), across, 1, head.k.data(), dq.data(), places, places, deep);
            product(ds.data(), 1, across, head.q.data(), dk.data(), places, places, deep);
            for (int64_t p = 0; p < places; ++p)
                for (int64_t e = 0; e < features; ++e) {
                    uint16_t *at =
                        qkv_gradient + (i * places + p) * 3 * width + h * features + e;
                    at[0] = narrow(scale * dq[p * deep + e]);
                    at[width] = narrow(scale * dk[p * deep + e]);
                    at[2 * width] = narrow(dv[p * deep + e]);
                }
        }
}
}
