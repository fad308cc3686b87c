/* A few positions through a run of transformer blocks, at the speed at which memory can be read.
 *
 * With one position, a block's time is the time that its weights take to come from memory; what
 * stands between that and an interpreter is a call for each small operation. So a span's blocks are
 * written down once as a list of instructions (peer/program.py makes it), and one call runs it.
 *
 * Activations are float32, [rows][width] in numbered buffers. Weights are used as they lie in
 * torch's tensors, row by row: each row is one stream that the processor's prefetcher follows, and
 * two streams at once were measured to halve the bandwidth.
 *
 * Vectors are GNU C's (gcc, clang); on x86-64 Linux the loader picks the clone for the processor.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, TILE = 64, PREFETCH = 4096 };

typedef float f32x16 __attribute__((vector_size(64)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

/* INT4_WIDE has its scales and middles in float32, INT4 in bfloat16; see `group_of`. */
enum Type { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2, INT4 = 3, INT4_WIDE = 4 };
enum Kind { NORM = 0, LINEAR = 1, ROTATE = 2, STORE = 3, ATTEND = 4, GATE = 5, ADD = 6 };
enum Activation { SILU = 0, GELU_TANH = 1, GELU = 2 };

/* One step of a program. Which fields count depends on `kind`; see the functions below.
 * `source` and `target` are buffers, `source_at` and `target_at` the first columns used there. */
typedef struct {
    int32_t kind, type;
    int32_t source, source_at, target, target_at;
    int32_t width;    /* numbers per row that are read (NORM, ROTATE, ATTEND, STORE: per head) */
    int32_t outputs;  /* numbers per row that are written; ATTEND, STORE: numbers of a value */
    int32_t heads, kv_heads;
    int32_t option;   /* LINEAR: add to the target; GATE: the activation; ATTEND: the window */
    float scale;      /* NORM: epsilon; ATTEND: of the scores */
    float cap;        /* ATTEND: soft cap of the scores, 0 for none */
    const void *first, *second, *third;
} Instruction;

/* One batch. A row is one position of some sequence. */
typedef struct {
    int32_t rows, num_threads;
    int32_t page_len, scores_len; /* positions of a page; floats of each thread in `scores` */
    float *const *buffers;
    const int32_t *widths;        /* of the buffers */
    const int32_t *positions;     /* [rows] */
    const int32_t *const *pages;  /* [rows], the pages of the row's sequence */
    const float *cosines, *sines; /* [positions][rotated] */
    int32_t rotated, reserved;
    float *scores;                /* [num_threads][scores_len] */
} Batch;

INLINE f32x16 load(const float *at) {
    f32x16 v;
    memcpy(&v, at, sizeof v);
    return v;
}

INLINE void store(float *at, f32x16 v) { memcpy(at, &v, sizeof v); }

INLINE float widen(uint16_t number) {
    union { uint32_t bits; float value; } u = {(uint32_t)number << 16};
    return u.value;
}

INLINE uint16_t narrow(float number) { /* to nearest even; numbers are finite */
    union { float value; uint32_t bits; } u = {number};
    return (uint16_t)((u.bits + 0x7fff + ((u.bits >> 16) & 1)) >> 16);
}

INLINE long size_of(int type) { return type == FLOAT32 ? 4 : type == BFLOAT16 ? 2 : 1; }

/* Sixteen numbers of any type, as float32. */
INLINE f32x16 load_as(const void *from, long index, int type) {
    if (type == FLOAT32) return load((const float *)from + index);
    if (type == INT8) {
        i8x16 whole;
        memcpy(&whole, (const int8_t *)from + index, sizeof whole);
        return __builtin_convertvector(__builtin_convertvector(whole, i32x16), f32x16);
    }
    u16x16 half;
    memcpy(&half, (const uint16_t *)from + index, sizeof half);
    return (f32x16)(__builtin_convertvector(half, u32x16) << 16);
}

INLINE float number(const void *from, long index, int type) {
    if (type == INT8) return ((const int8_t *)from)[index];
    return type == FLOAT32 ? ((const float *)from)[index] : widen(((const uint16_t *)from)[index]);
}

/* Sixteen sums to four: the rest is cheaper for many results together. */
INLINE void fold(const void *v, float *to) { /* by address: clang passes no f32x16 to DOTS */
    f32x8 half[2];
    memcpy(half, v, sizeof half);
    f32x8 both = half[0] + half[1];
    f32x4 quarter[2];
    memcpy(quarter, &both, sizeof quarter);
    f32x4 sum = quarter[0] + quarter[1];
    memcpy(to, &sum, sizeof sum);
}

INLINE float folded(const float *four) { return (four[0] + four[1]) + (four[2] + four[3]); }

INLINE float total(f32x16 v) {
    float four[4];
    fold(&v, four);
    return folded(four);
}

INLINE f32x16 choose(i32x16 where, f32x16 yes, f32x16 no) {
    return (f32x16)((where & (i32x16)yes) | (~where & (i32x16)no));
}

/* e^x to about 1e-7 relative: 2^n times a polynomial of the rest (Cephes' coefficients). */
INLINE f32x16 exponential(f32x16 x) {
    const f32x16 magic = (f32x16){} + 12582912.0f; /* 1.5 * 2^23: adding it rounds to integers */
    f32x16 low = (f32x16){} - 87.0f, high = (f32x16){} + 88.0f;
    x = choose(x < low, low, x);
    x = choose(x > high, high, x);
    f32x16 shifted = x * 1.44269504f + magic, n = shifted - magic;
    f32x16 r = x - n * 0.693359375f + n * 2.12194440e-4f;
    f32x16 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    i32x16 bits = ((i32x16)shifted - (i32x16)magic) << 23;
    return (f32x16)((i32x16)p + bits);
}

/* Asks for what comes next. Into the second-level cache: while several rows are computed, the few
 * places for lines on their way into the first would all be taken, which halves the speed. */
INLINE void fetch(const void *at) { __builtin_prefetch((const char *)at + PREFETCH, 0, 2); }

/* The part of `count` things that thread `part` of `parts` does. */
INLINE long share(long count, int part, int parts) { return count * part / parts; }

/* LINEAR: target = source @ first.T [* third] [+ second], or added to the target.
 *
 * Whatever the number of rows, each result is summed in the same order: a position gives the same
 * bits alone, beside others', and in a row of guesses that are checked together. */

typedef struct {
    const float *x;
    long x_stride;
    const void *weight;
    int type;
    const float *bias;   /* [outputs] or NULL */
    const float *scales; /* [outputs], of INT8; INT4 has its own */
    long width, outputs;
    int rows;
    float *to;
    long to_stride;
    int add;
} Product;

/* Sums of one weight row with `rows` rows of x, sixteen lanes folded to four. */
INLINE void sums_of(
    const float *x, long x_stride, const void *row, int type, long width, int rows, float (*four)[4]
) {
    f32x16 sums[8];
    for (int r = 0; r < rows; r++) sums[r] = (f32x16){};
    long size = size_of(type), k = 0;
    for (; k + LANES <= width; k += LANES) {
        fetch((const char *)row + k * size);
        f32x16 weights = load_as(row, k, type);
        for (int r = 0; r < rows; r++) sums[r] += weights * load(x + r * x_stride + k);
    }
    for (int r = 0; r < rows; r++) {
        fold(&sums[r], four[r]);
        for (long j = k; j < width; j++) four[r][0] += x[r * x_stride + j] * number(row, j, type);
    }
}

/* Weights in four bits: a row is groups of 32 numbers. A group is its scale and its middle, then 16
 * bytes: number k in the lower half of byte k, number k + 16 in the upper. */
enum { NIBBLES = 32 };

INLINE long head_size(int type) { return type == INT4 ? 4 : 8; }
INLINE long group_size(int type) { return head_size(type) + NIBBLES / 2; }

INLINE void head_of(const char *group, int type, float *scale, float *middle) {
    if (type == INT4) {
        uint16_t both[2];
        memcpy(both, group, sizeof both);
        *scale = widen(both[0]), *middle = widen(both[1]);
    } else {
        memcpy(scale, group, sizeof *scale);
        memcpy(middle, group + sizeof *scale, sizeof *middle);
    }
}

/* A group's numbers: level q is (q - 8) * scale + middle. */
INLINE void group_of(const char *group, int type, f32x16 *lower, f32x16 *upper) {
    float scale, middle;
    head_of(group, type, &scale, &middle);
    u8x16 both;
    memcpy(&both, group + head_size(type), sizeof both);
    f32x16 least = (f32x16){} + (middle - 8 * scale);
    i32x16 low = __builtin_convertvector(both & 15, i32x16);
    i32x16 high = __builtin_convertvector(both >> 4, i32x16);
    *lower = __builtin_convertvector(low, f32x16) * scale + least;
    *upper = __builtin_convertvector(high, f32x16) * scale + least;
}

/* As `sums_of`. */
INLINE void group_sums_of(
    const float *x, long x_stride, const void *row, int type, long width, int rows, float (*four)[4]
) {
    f32x16 sums[8];
    for (int r = 0; r < rows; r++) sums[r] = (f32x16){};
    const char *group = row;
    for (long k = 0; k < width; k += NIBBLES, group += group_size(type)) {
        fetch(group);
        f32x16 lower, upper;
        group_of(group, type, &lower, &upper);
        for (int r = 0; r < rows; r++) {
            const float *at = x + r * x_stride + k;
            sums[r] += lower * load(at);
            sums[r] += upper * load(at + LANES);
        }
    }
    for (int r = 0; r < rows; r++) fold(&sums[r], four[r]);
}

#define NAME by_float32
#define TARGET CLONES
#define WITHIN
#define NUMBER float
#define STRIDE(width) ((width) * 4)
#define SUMS(x, stride, row, width, rows, four) sums_of(x, stride, row, FLOAT32, width, rows, four)
#include "product.inc"

#define NAME by_bfloat16
#define TARGET CLONES
#define WITHIN
#define NUMBER float
#define STRIDE(width) ((width) * 2)
#define SUMS(x, stride, row, width, rows, four) sums_of(x, stride, row, BFLOAT16, width, rows, four)
#include "product.inc"

#define NAME by_int8
#define TARGET CLONES
#define WITHIN
#define NUMBER float
#define STRIDE(width) (width)
#define SUMS(x, stride, row, width, rows, four) sums_of(x, stride, row, INT8, width, rows, four)
#include "product.inc"

#define NAME by_int4
#define TARGET CLONES
#define WITHIN
#define NUMBER float
#define STRIDE(width) ((width) / NIBBLES * group_size(INT4))
#define SUMS(x, stride, row, width, rows, four) \
    group_sums_of(x, stride, row, INT4, width, rows, four)
#include "product.inc"

#define NAME by_int4_wide
#define TARGET CLONES
#define WITHIN
#define NUMBER float
#define STRIDE(width) ((width) / NIBBLES * group_size(INT4_WIDE))
#define SUMS(x, stride, row, width, rows, four) \
    group_sums_of(x, stride, row, INT4_WIDE, width, rows, four)
#include "product.inc"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* Memory that a thread keeps for what it makes of x. NULL where there is none. */
static void *kept(size_t needed) {
    static _Thread_local void *memory;
    static _Thread_local size_t size;
    if (needed > size) {
        void *larger = realloc(memory, needed);
        if (!larger) return 0;
        memory = larger, size = needed;
    }
    return memory;
}

#define DOTS __attribute__((target("arch=x86-64-v4,avx512bf16")))

/* The same where the processor multiplies pairs of bfloat16, twice as fast; x in bfloat16 too. */
DOTS INLINE void dots_of(
    const uint16_t *x, long x_stride, const void *row, long width, int rows, float (*four)[4]
) {
    __m512 sums[8];
    for (int r = 0; r < rows; r++) sums[r] = _mm512_setzero_ps();
    long k = 0;
    for (; k + 2 * LANES <= width; k += 2 * LANES) {
        const uint16_t *at = (const uint16_t *)row + k;
        fetch(at);
        __m512bh weights = (__m512bh)_mm512_loadu_si512(at);
        for (int r = 0; r < rows; r++) {
            __m512bh numbers = (__m512bh)_mm512_loadu_si512(x + r * x_stride + k);
            sums[r] = _mm512_dpbf16_ps(sums[r], weights, numbers);
        }
    }
    for (int r = 0; r < rows; r++) {
        fold(&sums[r], four[r]);
        for (long j = k; j < width; j++)
            four[r][0] += widen(x[r * x_stride + j]) * number(row, j, BFLOAT16);
    }
}

#define NAME by_dots
#define TARGET DOTS
#define WITHIN DOTS
#define NUMBER uint16_t
#define STRIDE(width) ((width) * 2)
#define SUMS dots_of
#include "product.inc"

/* x as bfloat16. */
CLONES static const uint16_t *narrowed(const Product *p) {
    uint16_t *to = kept(p->rows * p->width * sizeof(uint16_t));
    for (int r = 0; to && r < p->rows; r++)
        for (long k = 0; k < p->width; k++)
            to[r * p->width + k] = narrow(p->x[r * p->x_stride + k]);
    return to;
}

/* x as whole numbers of 15 bits, of which up to GROUP share a scale: about as fine as bfloat16, and
 * the sums with weights of few bits are exact. Each row lies behind its scales, and behind what
 * each NIBBLES of its numbers come to, which 4-bit weights ask for. */
enum { BLOCK = 64, GROUP = 256, LARGEST = 16383 };

INLINE long groups_of(long width) { return (width + GROUP - 1) / GROUP; }

/* Bytes of a row; its numbers begin at a multiple of 64. */
INLINE long scales_size(long width) {
    return ((groups_of(width) + width / NIBBLES) * 4 + 63) / 64 * 64;
}
INLINE long whole_size(long width) { return scales_size(width) + width * 2; }

CLONES static const char *wholes(const Product *p) {
    long width = p->width;
    char *to = kept(p->rows * whole_size(width));
    for (int r = 0; to && r < p->rows; r++) {
        float *scales = (float *)(to + r * whole_size(width));
        int16_t *numbers = (int16_t *)(to + r * whole_size(width) + scales_size(width));
        for (long start = 0; start < width; start += GROUP) {
            const float *x = p->x + r * p->x_stride + start;
            long count = width - start < GROUP ? width - start : GROUP;
            /* As whole numbers: what is NaN or infinite is then the largest, and not hidden. */
            union { float value; int32_t bits; } u = {1e-30f};
            for (long k = 0; k < count; k++) {
                int32_t bits;
                memcpy(&bits, x + k, sizeof bits);
                bits &= 0x7fffffff;
                u.bits = bits > u.bits ? bits : u.bits;
            }
            float most = u.value;
            scales[start / GROUP] = most / LARGEST;
            for (long k = 0; k < count; k++)
                numbers[start + k] =
                    (int16_t)(x[k] * (LARGEST / most) + (x[k] < 0 ? -0.5f : 0.5f));
        }
        float *sums = scales + groups_of(width);
        for (long g = 0; p->type != INT8 && g < width / NIBBLES; g++) {
            int32_t sum = 0;
            for (long k = 0; k < NIBBLES; k++) sum += numbers[g * NIBBLES + k];
            sums[g] = sum * scales[g * NIBBLES / GROUP];
        }
    }
    return to;
}

#define WHOLE __attribute__((target("arch=x86-64-v4,avx512vnni")))

WHOLE INLINE void whole_sums_of(
    const char *x, long x_stride, const void *row, long width, int rows, float (*four)[4]
) {
    __m512 sums[8];
    for (int r = 0; r < rows; r++) sums[r] = _mm512_setzero_ps();
    for (long start = 0; start < width; start += GROUP) {
        long end = start + GROUP < width ? start + GROUP : width;
        __m512i exact[8];
        for (int r = 0; r < rows; r++) exact[r] = _mm512_setzero_si512();
        for (long k = start; k < end; k += BLOCK) {
            const __m256i *at = (const __m256i *)((const char *)row + k);
            fetch(at);
            __m512i a = _mm512_cvtepi8_epi16(_mm256_loadu_si256(at));
            __m512i b = _mm512_cvtepi8_epi16(_mm256_loadu_si256(at + 1));
            for (int r = 0; r < rows; r++) {
                const char *numbers = x + r * x_stride + scales_size(width) + 2 * k;
                exact[r] = _mm512_dpwssd_epi32(exact[r], a, _mm512_loadu_si512(numbers));
                exact[r] = _mm512_dpwssd_epi32(exact[r], b, _mm512_loadu_si512(numbers + BLOCK));
            }
        }
        for (int r = 0; r < rows; r++) {
            const float *scales = (const float *)(x + r * x_stride);
            __m512 sum = _mm512_cvtepi32_ps(exact[r]);
            sums[r] = _mm512_fmadd_ps(sum, _mm512_set1_ps(scales[start / GROUP]), sums[r]);
        }
    }
    for (int r = 0; r < rows; r++) fold(&sums[r], four[r]);
}

WHOLE INLINE void whole_group_sums_of(
    const char *x, long x_stride, const void *row, int type, long width, int rows, float (*four)[4]
) {
    __m512 sums[8];
    for (int r = 0; r < rows; r++) sums[r] = _mm512_setzero_ps();
    const __m128i lower = _mm_set1_epi8(15);
    const __m512i eight = _mm512_set1_epi16(8);
    const char *group = row;
    for (long start = 0; start < width; start += GROUP) {
        long end = start + GROUP < width ? start + GROUP : width;
        float middles[GROUP / NIBBLES];
        __m512 parts[8];
        for (int r = 0; r < rows; r++) parts[r] = _mm512_setzero_ps();
        for (long k = start; k < end; k += NIBBLES, group += group_size(type)) {
            fetch(group);
            float scale;
            head_of(group, type, &scale, &middles[(k - start) / NIBBLES]);
            __m128i both = _mm_loadu_si128((const __m128i *)(group + head_size(type)));
            __m256i levels = _mm256_set_m128i(
                _mm_and_si128(_mm_srli_epi16(both, 4), lower), _mm_and_si128(both, lower)
            );
            __m512i weights = _mm512_sub_epi16(_mm512_cvtepu8_epi16(levels), eight);
            for (int r = 0; r < rows; r++) {
                const char *numbers = x + r * x_stride + scales_size(width) + 2 * k;
                __m512i exact = _mm512_dpwssd_epi32(
                    _mm512_setzero_si512(), weights, _mm512_loadu_si512(numbers)
                );
                parts[r] =
                    _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact), _mm512_set1_ps(scale), parts[r]);
            }
        }
        __mmask8 there = (__mmask8)((1u << ((end - start) / NIBBLES)) - 1);
        __m256 offsets = _mm256_maskz_loadu_ps(there, middles);
        for (int r = 0; r < rows; r++) {
            const float *scales = (const float *)(x + r * x_stride);
            const float *totals = scales + groups_of(width) + start / NIBBLES;
            sums[r] = _mm512_fmadd_ps(parts[r], _mm512_set1_ps(scales[start / GROUP]), sums[r]);
            __m256 offset = _mm256_mul_ps(offsets, _mm256_maskz_loadu_ps(there, totals));
            sums[r] = _mm512_add_ps(sums[r], _mm512_zextps256_ps512(offset));
        }
    }
    for (int r = 0; r < rows; r++) fold(&sums[r], four[r]);
}

#define NAME by_whole_int4
#define TARGET WHOLE
#define WITHIN WHOLE
#define NUMBER char
#define STRIDE(width) ((width) / NIBBLES * group_size(INT4))
#define SUMS(x, stride, row, width, rows, four) \
    whole_group_sums_of(x, stride, row, INT4, width, rows, four)
#include "product.inc"

#define NAME by_whole_int4_wide
#define TARGET WHOLE
#define WITHIN WHOLE
#define NUMBER char
#define STRIDE(width) ((width) / NIBBLES * group_size(INT4_WIDE))
#define SUMS(x, stride, row, width, rows, four) \
    whole_group_sums_of(x, stride, row, INT4_WIDE, width, rows, four)
#include "product.inc"

#define NAME by_whole
#define TARGET WHOLE
#define WITHIN WHOLE
#define NUMBER char
#define STRIDE(width) (width)
#define SUMS whole_sums_of
#include "product.inc"

/* Whether the processor can run these. */
static int has_dots(void) {
    static int known = -1;
    if (known < 0) known = __builtin_cpu_supports("avx512bf16") != 0;
    return known;
}

static int has_whole(void) {
    static int known = -1;
    if (known < 0)
        known = __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    return known;
}

static int by_processor(const Product *p, long first, long last) {
    if (p->type == BFLOAT16 && has_dots()) {
        const uint16_t *x = narrowed(p);
        if (x) by_dots(x, p->width, p, first, last);
        return x != 0;
    }
    if (p->type >= INT8 && p->width % BLOCK == 0 && has_whole()) {
        const char *x = wholes(p);
        long size = whole_size(p->width);
        if (x && p->type == INT8) by_whole(x, size, p, first, last);
        if (x && p->type == INT4) by_whole_int4(x, size, p, first, last);
        if (x && p->type == INT4_WIDE) by_whole_int4_wide(x, size, p, first, last);
        return x != 0;
    }
    return 0;
}
#else
static int by_processor(const Product *p, long first, long last) {
    (void)p, (void)first, (void)last;
    return 0;
}
#endif

static void linear(const Product *p, int part, int parts) {
    long first = share(p->outputs, part, parts), last = share(p->outputs, part + 1, parts);
    if (by_processor(p, first, last)) return;
    if (p->type == BFLOAT16) by_bfloat16(p->x, p->x_stride, p, first, last);
    else if (p->type == INT8) by_int8(p->x, p->x_stride, p, first, last);
    else if (p->type == INT4) by_int4(p->x, p->x_stride, p, first, last);
    else if (p->type == INT4_WIDE) by_int4_wide(p->x, p->x_stride, p, first, last);
    else by_float32(p->x, p->x_stride, p, first, last);
}

/* NORM: each of `heads` groups of `width` numbers, divided by its root mean square. */
CLONES static void norm(const Instruction *i, const float *x, float *to) {
    const float *weight = i->first;
    for (int h = 0; h < i->heads; h++, x += i->width, to += i->width) {
        f32x16 squares = {};
        long k = 0;
        for (; k + LANES <= i->width; k += LANES) squares += load(x + k) * load(x + k);
        float sum = total(squares);
        for (long j = k; j < i->width; j++) sum += x[j] * x[j];
        float inverse = 1.0f / sqrtf(sum / i->width + i->scale);
        for (k = 0; k < i->width; k++) to[k] = x[k] * inverse * weight[k];
    }
}

/* ROTATE: the first numbers of each head, one half against the other. */
CLONES static void rotate(const Instruction *i, float *x, const float *c, const float *s, int n) {
    for (int h = 0; h < i->heads; h++, x += i->width)
        for (int k = 0; k < n / 2; k++) {
            float a = x[k], b = x[k + n / 2];
            x[k] = a * c[k] - b * s[k];
            x[k + n / 2] = b * c[k + n / 2] + a * s[k + n / 2];
        }
}

CLONES static void keep(const float *x, void *at, long index, long count, int type) {
    if (type == FLOAT32) memcpy((float *)at + index, x, count * sizeof(float));
    else for (long k = 0; k < count; k++) ((uint16_t *)at)[index + k] = narrow(x[k]);
}

INLINE long slot(const int32_t *pages, int page_len, long position) {
    return (long)pages[position / page_len] * page_len + position % page_len;
}

/* ATTEND: all query heads of one row that share a key head. */

INLINE void weigh(float *scores, long count, float sink, float cap) {
    float most = sink;
    for (long p = 0; p < count; p++) {
        if (cap) scores[p] = cap * tanhf(scores[p] / cap);
        most = scores[p] > most ? scores[p] : most;
    }
    float sum = sink > -INFINITY ? expf(sink - most) : 0.0f;
    f32x16 sums = {};
    long p = 0;
    for (; p + LANES <= count; p += LANES) {
        f32x16 e = exponential(load(scores + p) - most);
        store(scores + p, e);
        sums += e;
    }
    for (; p < count; p++) sum += scores[p] = expf(scores[p] - most);
    float inverse = 1.0f / (sum + total(sums));
    for (p = 0; p < count; p++) scores[p] *= inverse;
}

INLINE void attend_typed(
    const Instruction *i, const Batch *b, int row, int kv_head, float *scores, const float *query,
    float *to, int type
) {
    long group = i->heads / i->kv_heads, dim = i->width, size = i->outputs;
    long end = b->positions[row] + 1, begin = i->option && end > i->option ? end - i->option : 0;
    long count = end - begin;
    for (long p = 0; p < count; p++) {
        long index = (slot(b->pages[row], b->page_len, begin + p) * i->kv_heads + kv_head) * dim;
        for (long g = 0; g < group; g++) {
            f32x16 sum = {};
            long k = 0;
            for (; k + LANES <= dim; k += LANES)
                sum += load_as(i->first, index + k, type) * load(query + g * dim + k);
            float score = total(sum);
            for (; k < dim; k++) score += number(i->first, index + k, type) * query[g * dim + k];
            scores[g * count + p] = score * i->scale;
        }
    }
    for (long g = 0; g < group; g++) {
        const float *sinks = i->third;
        weigh(scores + g * count, count, sinks ? sinks[kv_head * group + g] : -INFINITY, i->cap);
    }
    memset(to, 0, group * size * sizeof(float));
    for (long p = 0; p < count; p++) {
        long index = (slot(b->pages[row], b->page_len, begin + p) * i->kv_heads + kv_head) * size;
        long k = 0;
        for (; k + LANES <= size; k += LANES) {
            f32x16 value = load_as(i->second, index + k, type);
            for (long g = 0; g < group; g++) {
                float *at = to + g * size + k;
                store(at, load(at) + value * scores[g * count + p]);
            }
        }
        for (; k < size; k++)
            for (long g = 0; g < group; g++)
                to[g * size + k] += scores[g * count + p] * number(i->second, index + k, type);
    }
}

CLONES static void attend(
    const Instruction *i, const Batch *b, int row, int kv_head, float *scores, const float *query,
    float *to
) {
    if (i->type == FLOAT32) attend_typed(i, b, row, kv_head, scores, query, to, FLOAT32);
    else attend_typed(i, b, row, kv_head, scores, query, to, BFLOAT16);
}

/* GATE: activation(first half) * second half, `width` numbers each. */
CLONES static void gate(const float *x, float *to, long width, int activation) {
    const float *up = x + width;
    long k = 0;
    if (activation == GELU) {
        for (; k < width; k++) to[k] = 0.5f * x[k] * (1.0f + erff(x[k] * 0.70710678f)) * up[k];
        return;
    }
    for (; k < width; k += LANES) {
        float rest[LANES] = {0};
        long count = width - k < LANES ? width - k : LANES;
        memcpy(rest, x + k, count * sizeof(float));
        f32x16 v = load(rest), inner = v;
        /* tanh(y) is 2 / (1 + e^-2y) - 1, so that both are v / (1 + e^-inner). */
        if (activation == GELU_TANH) inner = 1.59576912f * (v + 0.044715f * v * v * v);
        store(rest, v / (1.0f + exponential(-inner)));
        for (long j = 0; j < count; j++) to[k + j] = rest[j] * up[k + j];
    }
}

static void execute(const Instruction *i, const Batch *b, int part, int parts) {
    long source_stride = b->widths[i->source], target_stride = b->widths[i->target];
    const float *x = b->buffers[i->source] + i->source_at;
    float *to = b->buffers[i->target] + i->target_at;
    if (i->kind == LINEAR) {
        Product product = {x, source_stride, i->first, i->type, i->second, i->third, i->width,
                           i->outputs, b->rows, to, target_stride, i->option};
        linear(&product, part, parts);
        return;
    }
    if (i->kind == ATTEND) {
        long count = (long)b->rows * i->kv_heads, group = i->heads / i->kv_heads;
        for (long n = share(count, part, parts); n < share(count, part + 1, parts); n++) {
            long row = n / i->kv_heads, head = n % i->kv_heads;
            attend(i, b, row, head, b->scores + (long)part * b->scores_len,
                   x + row * source_stride + head * group * i->width,
                   to + row * target_stride + head * group * i->outputs);
        }
        return;
    }
    for (long r = share(b->rows, part, parts); r < share(b->rows, part + 1, parts); r++) {
        const float *row = x + r * source_stride;
        float *out = to + r * target_stride;
        long position = b->positions[r];
        switch (i->kind) {
        case NORM:
            norm(i, row, out);
            break;
        case ROTATE:
            rotate(i, out, b->cosines + position * b->rotated, b->sines + position * b->rotated,
                   b->rotated);
            break;
        case STORE: {
            long at = slot(b->pages[r], b->page_len, position) * i->kv_heads;
            long numbers = (long)i->kv_heads * i->width;
            keep(row, (void *)i->first, at * i->width, numbers, i->type);
            keep(row + numbers, (void *)i->second, at * i->outputs,
                 (long)i->kv_heads * i->outputs, i->type);
            break;
        }
        case GATE:
            gate(row, out, i->width, i->option);
            break;
        case ADD:
            for (long k = 0; k < i->width; k++) out[k] += row[k];
            break;
        }
    }
}

/* Runs `count` instructions on one batch. */
void homeswarm_run(const Instruction *program, int64_t count, const Batch *batch) {
#ifdef _OPENMP
    if (batch->num_threads > 1) {
#pragma omp parallel num_threads(batch->num_threads)
        for (int64_t n = 0; n < count; n++) {
            execute(program + n, batch, omp_get_thread_num(), omp_get_num_threads());
#pragma omp barrier
        }
        return;
    }
#endif
    for (int64_t n = 0; n < count; n++) execute(program + n, batch, 0, 1);
}

/* to[rows][outputs] = x[rows][width] @ weight.T + bias */
void homeswarm_linear(
    const float *x, int32_t type, const void *weight, const float *bias, const float *scales,
    int64_t width, int64_t outputs, int32_t rows, float *to, int32_t num_threads
) {
    Product product = {x, width, weight, type, bias, scales, width, outputs, rows, to, outputs, 0};
#ifdef _OPENMP
    if (num_threads > 1) {
#pragma omp parallel num_threads(num_threads)
        linear(&product, omp_get_thread_num(), omp_get_num_threads());
        return;
    }
#else
    (void)num_threads;
#endif
    linear(&product, 0, 1);
}

CLONES static void widen_row(const char *group, int type, long width, int to_type, char *to) {
    for (long k = 0; k < width; k += NIBBLES, group += group_size(type)) {
        f32x16 half[2];
        if (type == INT4) group_of(group, INT4, &half[0], &half[1]);
        else group_of(group, INT4_WIDE, &half[0], &half[1]);
        if (to_type == FLOAT32) {
            memcpy((float *)to + k, half, sizeof half);
            continue;
        }
        for (int h = 0; h < 2; h++) { /* as `narrow` does */
            u32x16 bits = (u32x16)half[h];
            bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
            u16x16 narrow = __builtin_convertvector(bits, u16x16);
            memcpy((uint16_t *)to + k + h * LANES, &narrow, sizeof narrow);
        }
    }
}

/* to[rows][width] in float32 or bfloat16: what weights of INT4 or INT4_WIDE stand for. */
void homeswarm_widen(
    int32_t type, const void *weight, int64_t width, int64_t rows, int32_t to_type, void *to,
    int32_t num_threads
) {
    long stride = width / NIBBLES * group_size(type), to_stride = width * size_of(to_type);
#ifdef _OPENMP
#pragma omp parallel for num_threads(num_threads) if (num_threads > 1)
#else
    (void)num_threads;
#endif
    for (long n = 0; n < rows; n++)
        widen_row(
            (const char *)weight + n * stride, type, width, to_type, (char *)to + n * to_stride
        );
}
