// What the training of the dynamics does with whole pictures, each in one pass: eager torch walks
// over some thirty copies of a batch of them per update. pictures.py says what each one computes.
//
// float32, contiguous, no two arguments the same memory. Pictures are (n, 3, height, width).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

typedef float Four __attribute__((vector_size(16)));

static inline Four load(const float *from) {
    Four four;
    std::memcpy(&four, from, sizeof four);
    return four;
}

static inline float sum(Four x) { return (x[0] + x[1]) + (x[2] + x[3]); }

// Keys' kernel with a = -0.75, as torch has it: weights of four neighbours, and their derivatives.
struct Cubic {
    Four weight, slope;
    explicit Cubic(float t) {
        const float a = -0.75f, x0 = t + 1, x2 = 1 - t, x3 = 2 - t;
        weight = Four{((a * x0 - 5 * a) * x0 + 8 * a) * x0 - 4 * a,
                      ((a + 2) * t - (a + 3)) * t * t + 1,
                      ((a + 2) * x2 - (a + 3)) * x2 * x2 + 1,
                      ((a * x3 - 5 * a) * x3 + 8 * a) * x3 - 4 * a};
        slope = Four{(3 * a * x0 - 10 * a) * x0 + 8 * a, (3 * (a + 2) * t - 2 * (a + 3)) * t,
                     -((3 * (a + 2) * x2 - 2 * (a + 3)) * x2),
                     -((3 * a * x3 - 10 * a) * x3 + 8 * a)};
    }
};

// One pixel of a moved picture: four by four neighbours, borders repeated.
struct Neighbours {
    Cubic across, down;
    int64_t rows[4], columns[4];
    bool is_inside;
    Neighbours(float x, float y, int64_t height, int64_t width)
        : across(x - std::floor(x)), down(y - std::floor(y)) {
        const int64_t left = static_cast<int64_t>(std::floor(x)) - 1;
        const int64_t top = static_cast<int64_t>(std::floor(y)) - 1;
        is_inside = left >= 0 && left + 3 < width;
        for (int64_t i = 0; i < 4; ++i) {
            rows[i] = std::min(std::max<int64_t>(top + i, 0), height - 1) * width;
            columns[i] = std::min(std::max<int64_t>(left + i, 0), width - 1);
        }
    }
    Four row(const float *plane, int i) const {
        const float *from = plane + rows[i];
        if (is_inside) return load(from + columns[0]);
        return Four{from[columns[0]], from[columns[1]], from[columns[2]], from[columns[3]]};
    }
};

static inline bool is_place(float x, float y) { return std::fabs(x) < 1e6f && std::fabs(y) < 1e6f; }

extern "C" {

// flow (n, 2, height, width) -> moved
void worldsim_warp(const float *picture, const float *flow, float *moved, int64_t n,
                   int64_t height, int64_t width) {
    const int64_t plane = height * width;
    for (int64_t i = 0; i < n; ++i) {
        const float *from = picture + 3 * i * plane, *by = flow + 2 * i * plane;
        float *to = moved + 3 * i * plane;
        for (int64_t y = 0; y < height; ++y)
            for (int64_t x = 0; x < width; ++x, ++to, ++by) {
                if (!is_place(by[0], by[plane])) {
                    to[0] = to[plane] = to[2 * plane] = std::numeric_limits<float>::quiet_NaN();
                    continue;
                }
                const Neighbours near(x + by[0], y + by[plane], height, width);
                for (int64_t k = 0; k < 3; ++k) {
                    Four column = near.down.weight[0] * near.row(from + k * plane, 0);
                    for (int r = 1; r < 4; ++r)
                        column += near.down.weight[r] * near.row(from + k * plane, r);
                    to[k * plane] = std::min(std::max(sum(column * near.across.weight), -1.0f), 1.0f);
                }
            }
    }
}

// gradient of the moved pictures -> gradient of flow
void worldsim_warp_backward(const float *picture, const float *flow, const float *gradient,
                            float *flow_gradient, int64_t n, int64_t height, int64_t width) {
    const int64_t plane = height * width;
    for (int64_t i = 0; i < n; ++i) {
        const float *from = picture + 3 * i * plane, *by = flow + 2 * i * plane;
        const float *given = gradient + 3 * i * plane;
        float *to = flow_gradient + 2 * i * plane;
        for (int64_t y = 0; y < height; ++y)
            for (int64_t x = 0; x < width; ++x, ++to, ++by, ++given) {
                if (!is_place(by[0], by[plane])) {
                    to[0] = to[plane] = std::numeric_limits<float>::quiet_NaN();
                    continue;
                }
                const Neighbours near(x + by[0], y + by[plane], height, width);
                float along_x = 0, along_y = 0;
                for (int64_t k = 0; k < 3; ++k) {
                    Four column{0, 0, 0, 0}, steep{0, 0, 0, 0};
                    for (int r = 0; r < 4; ++r) {
                        const Four row = near.row(from + k * plane, r);
                        column += near.down.weight[r] * row;
                        steep += near.down.slope[r] * row;
                    }
                    // beyond [-1, 1] the picture is clamped
                    const bool is_flat = std::fabs(sum(column * near.across.weight)) > 1;
                    const float given_here = is_flat ? 0.0f : given[k * plane];
                    along_x += given_here * sum(column * near.across.slope);
                    along_y += given_here * sum(steep * near.across.weight);
                }
                to[0] = along_x;
                to[plane] = along_y;
            }
    }
}

// pictures -> gray (n, height / 2, width / 2)
void worldsim_halved(const float *picture, float *gray, int64_t n, int64_t height, int64_t width) {
    const int64_t plane = height * width, half = width / 2;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t y = 0; y < height / 2; ++y, gray += half) {
            const float *row = picture + 3 * i * plane + 2 * y * width;
            for (int64_t x = 0; x < half; ++x) {
                float total = 0;
                for (int64_t k = 0; k < 3; ++k) {
                    const float *at = row + k * plane + 2 * x;
                    total += (at[0] + at[1]) + (at[width] + at[width + 1]);
                }
                gray[x] = total / 12;
            }
        }
}

// from, to (n, channels, height, width) -> error (n, shifts, height / down, width / across): L1 per
// block, of all shifts of `from` by up to `reach` down and across, row by row, borders repeated
void worldsim_errors(const float *from, const float *to, float *error, int64_t n, int64_t channels,
                     int64_t height, int64_t width, int64_t reach_down, int64_t reach_across,
                     int64_t down, int64_t across) {
    const int64_t plane = height * width, rows = height / down, columns = width / across;
    const int64_t wide = width + 2 * reach_across, tall = height + 2 * reach_down;
    const int64_t shifts_across = 2 * reach_across + 1;
    const int64_t shifts = (2 * reach_down + 1) * shifts_across;
    const float scale = 1.0f / (channels * down * across);
    for (int64_t i = 0; i < n; ++i) {
        std::vector<float> padded(channels * tall * wide), line(width);
        for (int64_t k = 0; k < channels; ++k)
            for (int64_t y = 0; y < tall; ++y) {
                const int64_t at = std::min(std::max<int64_t>(y - reach_down, 0), height - 1);
                const float *row = from + (i * channels + k) * plane + at * width;
                float *out = padded.data() + (k * tall + y) * wide;
                std::fill(out, out + reach_across, row[0]);
                std::copy(row, row + width, out + reach_across);
                std::fill(out + reach_across + width, out + wide, row[width - 1]);
            }
        for (int64_t s = 0; s < shifts; ++s) {
            const int64_t by_y = s / shifts_across, by_x = s % shifts_across;
            for (int64_t row = 0; row < rows; ++row) {
                float *sums = line.data();
                std::fill(sums, sums + width, 0.0f);
                for (int64_t k = 0; k < channels; ++k)
                    for (int64_t y = row * down; y < (row + 1) * down; ++y) {
                        const float *a = padded.data() + (k * tall + y + by_y) * wide + by_x;
                        const float *b = to + (i * channels + k) * plane + y * width;
                        for (int64_t x = 0; x < width; ++x) sums[x] += std::fabs(a[x] - b[x]);
                    }
                float *out = error + ((i * shifts + s) * rows + row) * columns;
                for (int64_t column = 0; column < columns; ++column) {
                    float total = 0;
                    for (int64_t x = 0; x < across; ++x) total += sums[column * across + x];
                    out[column] = scale * total;
                }
            }
        }
    }
}

// planes (n, rows, columns) -> each place the mean of itself and its neighbours, borders repeated
void worldsim_smoothed(const float *from, float *to, int64_t n, int64_t rows, int64_t columns) {
    std::vector<float> line(columns + 2);
    for (int64_t i = 0; i < n; ++i, from += rows * columns, to += rows * columns)
        for (int64_t y = 0; y < rows; ++y) {
            const float *above = from + std::max<int64_t>(y - 1, 0) * columns;
            const float *here = from + y * columns;
            const float *below = from + std::min(y + 1, rows - 1) * columns;
            for (int64_t x = 0; x < columns; ++x) line[x + 1] = above[x] + here[x] + below[x];
            line[0] = line[1];
            line[columns + 1] = line[columns];
            for (int64_t x = 0; x < columns; ++x)
                to[y * columns + x] = (line[x] + line[x + 1] + line[x + 2]) / 9;
        }
}

// L1 of those pictures (n, channels, height, width) that are chosen, and of their averages over
// squares of 2, 4 and 8 pixels, each divided by how many there are; sides are multiples of 8.
// gradient: of `moved`, zero where not chosen. Not a number if none is.
double worldsim_motion_loss(const float *moved, const float *real, const uint8_t *chosen,
                            float *gradient, int64_t n, int64_t channels, int64_t height,
                            int64_t width) {
    const int64_t plane = height * width;
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += chosen[i] != 0;
    const float each = 1.0f / (static_cast<float>(count * channels) * plane);
    std::vector<float> levels[4];
    for (int64_t k = 0; k < 4; ++k) levels[k].resize((height >> k) * (width >> k));
    double loss = 0;
    for (int64_t i = 0; i < n * channels; ++i) {
        float *out = gradient + i * plane;
        if (!chosen[i / channels]) {
            std::fill(out, out + plane, 0.0f);
            continue;
        }
        const float *a = moved + i * plane, *b = real + i * plane;
        float *finest = levels[0].data();
        for (int64_t p = 0; p < plane; ++p) finest[p] = a[p] - b[p];
        for (int64_t k = 0; k < 4; ++k) {
            const int64_t h = height >> k, w = width >> k;
            const float *fine = levels[k].data();
            float total = 0;
            for (int64_t p = 0; p < h * w; ++p) total += std::fabs(fine[p]);
            loss += static_cast<double>(total) * (1 << 2 * k);
            if (k == 3) break;
            float *coarse = levels[k + 1].data();
            for (int64_t y = 0; y < h / 2; ++y)
                for (int64_t x = 0; x < w / 2; ++x) {
                    const float *at = fine + 2 * y * w + 2 * x;
                    coarse[y * (w / 2) + x] = ((at[0] + at[1]) + (at[w] + at[w + 1])) / 4;
                }
        }
        for (int64_t k = 3; k >= 0; --k) {  // each level: its signs, and those of the coarser ones
            const int64_t h = height >> k, w = width >> k;
            for (int64_t y = 0; y < h; ++y) {
                float *row = levels[k].data() + y * w;
                for (int64_t x = 0; x < w; ++x)
                    row[x] = static_cast<float>((row[x] > 0) - (row[x] < 0));
                if (k == 3) continue;
                const float *above = levels[k + 1].data() + (y / 2) * (w / 2);
                for (int64_t x = 0; x < w; ++x) row[x] += above[x / 2];
            }
        }
        for (int64_t p = 0; p < plane; ++p) out[p] = each * finest[p];
    }
    return loss * each;
}
}
