/* Fixed-point arithmetic. Right shifts of negative numbers must be arithmetic, as they are on every compiler for Arm;
 * the assertion stops the others. */
#ifndef PULSECODE_FIXED_H
#define PULSECODE_FIXED_H

#include <stdint.h>

_Static_assert((-3 >> 1) == -2, "needs an arithmetic right shift");

static inline int32_t pc_clamp(int32_t value, int32_t limit)
{
    const int32_t below = (value < limit) ? value : limit;
    return (below > -limit) ? below : -limit;
}

static inline int32_t pc_clamp_wide(int64_t value, int32_t limit)
{
    const int64_t below = (value < (int64_t)limit) ? value : (int64_t)limit;
    return (int32_t)((below > -(int64_t)limit) ? below : -(int64_t)limit);
}

/* value * 2^-shift, rounded to nearest; 1 <= shift <= 62. */
static inline int64_t pc_round_shift(int64_t value, uint8_t shift)
{
    return (value + ((int64_t)1 << (shift - 1U))) >> shift;
}

/* value * factor * 2^-(32 + shift), rounded; 1 <= shift <= 31. The upper half of the product is one instruction. */
static inline int32_t pc_scale(int32_t value, int32_t factor, uint8_t shift)
{
    const int32_t upper = (int32_t)(((int64_t)value * (int64_t)factor) >> 32);
    return (upper + ((int32_t)1 << (shift - 1U))) >> shift;
}

/* Square root, rounded to nearest: one bit of the result in each round. */
static inline uint32_t pc_sqrt(uint32_t value)
{
    uint32_t rest = value;
    uint32_t root = 0U;
    for (uint32_t bit = (uint32_t)1U << 30; bit != 0U; bit >>= 2) {
        const uint32_t trial = root + bit;
        root >>= 1;
        if (rest >= trial) {
            rest -= trial;
            root += bit;
        }
    }
    return root + (uint32_t)(rest > root);
}

/* 1/sqrt(value) as inverse * 2^-(32 + exponent), exact to 2^-16; value from 1 on, exponent -15 .. 16. */
static inline uint32_t pc_inverse_sqrt(uint64_t value, int32_t *exponent)
{
    uint64_t leading = value;
    *exponent = 16;
    while ((leading >> 62) == 0U) {
        leading <<= 2;
        (*exponent)--;
    }
    return UINT32_MAX / pc_sqrt((uint32_t)(leading >> 32));
}

/* A table with entries 2^-step apart (step < 16), read at `position` (Q16); the caller keeps the position inside. */
static inline uint32_t pc_interpolate(const uint16_t *table, uint32_t position, uint8_t step)
{
    const uint8_t bits = (uint8_t)(16U - step);
    const uint32_t index = position >> bits;
    const int32_t part = (int32_t)(position & (((uint32_t)1U << bits) - 1U));
    const int32_t from = (int32_t)table[index];
    const int32_t rise = (int32_t)table[index + 1U] - from;
    return (uint32_t)(from + (((rise * part) + ((int32_t)1 << (bits - 1U))) >> bits));
}

#endif
