/* Shapes of the generated constants. A linear layer computes, for every output row o,
 *     multiplier[o] * (bias[o] + sum_i weight[o][i] * input[i]) / 2^(32 + shift), rounded,
 * where the sum fits in 32 bits whatever the input: the generator proves it from the weights and the inputs' limits.
 */
#ifndef PULSECODE_TYPES_H
#define PULSECODE_TYPES_H

#include <stdint.h>

#include "pulsecode_model.h"

typedef struct {
    const int8_t *weight; /* in tiles, see pulsecode_dot.h */
    const int32_t *bias;
    const int32_t *multiplier;
    uint16_t tiles; /* of four inputs */
    uint16_t outputs;
    uint8_t shift;
    int32_t limit; /* results are clamped to +-limit */
} pc_linear;

typedef struct {
    const int32_t *gain; /* of the normalised value in Q30, 2^(32 + shift) too large */
    const int32_t *bias; /* in the output's format */
    uint64_t epsilon;    /* times PC_DIM, in the square of the residual's format; not used by tanh */
    int32_t alpha;       /* tanh only: from the residual's format to Q16, 2^alpha_shift too large */
    uint8_t alpha_shift;
    uint8_t shift;
    int32_t limit;
} pc_norm;

typedef struct {
    pc_norm norm_attention;
    pc_linear query; /* scaled by 1/sqrt(PC_HEAD_DIM) */
    pc_linear key;
    pc_linear value;
    pc_linear out;
    const int32_t *age_bias; /* [PC_HEADS][PC_CONTEXT], oldest first, Q(logit_bits) */
    uint8_t logit_bits;
    uint8_t logit_shift; /* from query times key to Q(logit_bits) */
    pc_norm norm_mlp;
    pc_linear expand;
    uint8_t expand_bits;  /* its results are in Q(expand_bits) */
    uint8_t hidden_shift; /* from there to the hidden format */
    int32_t hidden_limit;
    pc_linear contract;
} pc_block;

typedef struct {
    pc_linear embed;
    pc_block blocks[PC_LAYERS];
    pc_norm norm;
    pc_linear head;
} pc_encoder;

extern const pc_encoder PC_ENCODER;

/* The front end's second-order sections: b0 b1 b2 a1 a2, Q29. */
extern const int32_t PC_SOS[PC_SECTIONS][5];

/* Tables of functions; each is read between its entries by linear interpolation. */
extern const uint16_t PC_EXP2[129]; /* 2^-t in Q15, t = i/128 */
#ifdef PC_NORM_TANH
extern const uint16_t PC_TANH[513]; /* tanh t in Q15, t = i/64 */
#endif
#ifdef PC_ACTIVATION_GELU
extern const uint16_t PC_GELU[513]; /* t Phi(-t) in Q18, t = i/64 */
#endif

#endif
