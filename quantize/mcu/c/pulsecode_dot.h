/* Products of int8 weights and int16 inputs, summed in 32 bits.
 *
 * Weights come in tiles of four rows by four columns, tile after tile along the rows, so that one pointer runs through
 * them and an input is loaded once for four rows. Inside a row of a tile the columns stand in the order 0 2 1 3, which
 * is how SXTB16 takes bytes apart. Rows and columns are filled up with zeros to whole tiles.
 *
 * With PC_USE_DSP on a Cortex-M with the DSP extension two products take one instruction (SMLAD). The bits are the
 * same either way: the sums are exact. */
#ifndef PULSECODE_DOT_H
#define PULSECODE_DOT_H

#include <stdint.h>

#define PC_TILE 4

#if defined(PC_USE_DSP) && defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#include <string.h>

/* A load that needs no alignment of its own; one instruction. */
static inline uint32_t pc_load(const void *from)
{
    uint32_t word;
    (void)memcpy(&word, from, sizeof word);
    return word;
}

static inline int32_t pc_four(const int8_t *weight, int16x2_t low, int16x2_t high, int32_t sum)
{
    const uint32_t word = pc_load(weight);
    int16x2_t upper;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(upper) : "r"(word)); /* the intrinsic does not fold the rotation */
    return __smlad(upper, high, __smlad(__sxtb16((int8x4_t)word), low, sum));
}

static inline void pc_dot_rows(const int8_t *weight, const int16_t *input, uint16_t tiles, int32_t sum[PC_TILE])
{
    int32_t s0 = 0;
    int32_t s1 = 0;
    int32_t s2 = 0;
    int32_t s3 = 0;
    for (uint32_t left = tiles; left != 0U; left--) {
        const int16x2_t low = (int16x2_t)pc_load(&input[0]);
        const int16x2_t high = (int16x2_t)pc_load(&input[2]);
        s0 = pc_four(&weight[0], low, high, s0);
        s1 = pc_four(&weight[4], low, high, s1);
        s2 = pc_four(&weight[8], low, high, s2);
        s3 = pc_four(&weight[12], low, high, s3);
        weight = &weight[PC_TILE * PC_TILE];
        input = &input[PC_TILE];
    }
    sum[0] = s0;
    sum[1] = s1;
    sum[2] = s2;
    sum[3] = s3;
}
#else
static inline int32_t pc_four(const int8_t *weight, int32_t x0, int32_t x1, int32_t x2, int32_t x3)
{
    return ((int32_t)weight[0] * x0) + ((int32_t)weight[2] * x1) + ((int32_t)weight[1] * x2) +
           ((int32_t)weight[3] * x3);
}

static inline void pc_dot_rows(const int8_t *weight, const int16_t *input, uint16_t tiles, int32_t sum[PC_TILE])
{
    int32_t s0 = 0;
    int32_t s1 = 0;
    int32_t s2 = 0;
    int32_t s3 = 0;
    for (uint32_t left = tiles; left != 0U; left--) {
        const int32_t x0 = (int32_t)input[0];
        const int32_t x1 = (int32_t)input[1];
        const int32_t x2 = (int32_t)input[2];
        const int32_t x3 = (int32_t)input[3];
        s0 += pc_four(&weight[0], x0, x1, x2, x3);
        s1 += pc_four(&weight[4], x0, x1, x2, x3);
        s2 += pc_four(&weight[8], x0, x1, x2, x3);
        s3 += pc_four(&weight[12], x0, x1, x2, x3);
        weight = &weight[PC_TILE * PC_TILE];
        input = &input[PC_TILE];
    }
    sum[0] = s0;
    sum[1] = s1;
    sum[2] = s2;
    sum[3] = s3;
}
#endif

/* Both sides int16: the sum needs more than 32 bits. */
static inline int64_t pc_dot_wide(const int16_t *left, const int16_t *right, uint16_t count)
{
    int64_t sum = 0;
    for (uint32_t i = 0U; i < count; i++) {
        sum += (int64_t)((int32_t)left[i] * (int32_t)right[i]);
    }
    return sum;
}

#endif
