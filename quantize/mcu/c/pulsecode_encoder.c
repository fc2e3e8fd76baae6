/* One hop of the encoder with its state; see pulsecode_encoder.h. */
#include "pulsecode_encoder.h"

#include <stddef.h>
#include <string.h>

#include "pulsecode_dot.h"
#include "pulsecode_fixed.h"
#include "pulsecode_types.h"

#define PC_LOG2_E INT32_C(1549082005) /* log2(e) in Q30 */
#define PC_ONE INT32_C(32768) /* 1 in Q15 */

/* The results of up to PC_TILE rows from `row` on. Returns how many: the last rows of a layer may fill no tile. */
static uint16_t pc_rows(const pc_linear *layer, const int16_t *input, uint16_t row, int32_t result[PC_TILE])
{
    const uint16_t left = (uint16_t)(layer->outputs - row);
    const uint16_t count = (left < (uint16_t)PC_TILE) ? left : (uint16_t)PC_TILE;
    pc_dot_rows(&layer->weight[(uint32_t)row * layer->tiles * PC_TILE], input, layer->tiles, result);
    for (uint16_t i = 0U; i < count; i++) {
        const int32_t scaled = pc_scale(layer->bias[row + i] + result[i], layer->multiplier[row + i], layer->shift);
        result[i] = pc_clamp(scaled, layer->limit);
    }
    return count;
}

static void pc_apply(const pc_linear *layer, const int16_t *input, int16_t *output)
{
    int32_t result[PC_TILE];
    for (uint16_t row = 0U; row < layer->outputs; row = (uint16_t)(row + PC_TILE)) {
        const uint16_t count = pc_rows(layer, input, row, result);
        for (uint16_t i = 0U; i < count; i++) {
            output[row + i] = (int16_t)result[i];
        }
    }
}

/* Neither side is above PC_RESIDUAL_LIMIT, so the sum fits in 32 bits. */
static void pc_add(const pc_linear *layer, const int16_t *input, int32_t residual[PC_DIM])
{
    int32_t result[PC_TILE];
    for (uint16_t row = 0U; row < layer->outputs; row = (uint16_t)(row + PC_TILE)) {
        const uint16_t count = pc_rows(layer, input, row, result);
        for (uint16_t i = 0U; i < count; i++) {
            residual[row + i] = pc_clamp(residual[row + i] + result[i], PC_RESIDUAL_LIMIT);
        }
    }
}

/* x in Q(bits), and so is what is returned. */
static int32_t pc_activation(int32_t x, uint8_t bits)
{
    const int32_t upward = (x > 0) ? x : 0;
#ifdef PC_ACTIVATION_GELU
    /* gelu(x) = max(x, 0) - |x| Phi(-|x|); the last term is even, and gone at 8. */
    const uint32_t size = (uint32_t)((x < 0) ? -x : x);
    if (size >= ((uint32_t)8U << bits)) {
        return upward;
    }
    const uint32_t dip = pc_interpolate(PC_GELU, size << (16U - bits), 6U);
    return upward - (int32_t)((dip + ((uint32_t)1U << (17U - bits))) >> (18U - bits));
#else
    (void)bits;
    return upward;
#endif
}

static void pc_expand(const pc_block *block, const int16_t *input, int16_t hidden[PC_HIDDEN])
{
    const int32_t half = (int32_t)1 << (block->hidden_shift - 1U);
    int32_t result[PC_TILE];
    for (uint16_t row = 0U; row < block->expand.outputs; row = (uint16_t)(row + PC_TILE)) {
        const uint16_t count = pc_rows(&block->expand, input, row, result);
        for (uint16_t i = 0U; i < count; i++) {
            const int32_t active = pc_activation(result[i], block->expand_bits) + half;
            hidden[row + i] = (int16_t)pc_clamp(active >> block->hidden_shift, block->hidden_limit);
        }
    }
}

/* A normalised value in Q30 times its gain, plus its bias. */
static int16_t pc_affine(const pc_norm *norm, uint16_t i, int32_t unit)
{
    return (int16_t)pc_clamp(pc_scale(unit, norm->gain[i], norm->shift) + norm->bias[i], norm->limit);
}

#ifdef PC_NORM_TANH
static void pc_normalise(const pc_norm *norm, const int32_t residual[PC_DIM], int16_t output[PC_DIM])
{
    for (uint16_t i = 0U; i < PC_DIM; i++) {
        const int64_t x = pc_round_shift((int64_t)residual[i] * (int64_t)norm->alpha, norm->alpha_shift);
        const int32_t clipped = pc_clamp_wide(x, ((int32_t)8 << 16) - 1);
        const uint32_t size = (uint32_t)((clipped < 0) ? -clipped : clipped);
        const int32_t bent = (int32_t)pc_interpolate(PC_TANH, size, 6U);
        output[i] = pc_affine(norm, i, ((clipped < 0) ? -bent : bent) * PC_ONE);
    }
}
#else
static int32_t pc_mean(const int32_t residual[PC_DIM])
{
#ifdef PC_NORM_LAYER
    int64_t sum = 0;
    for (uint16_t i = 0U; i < PC_DIM; i++) {
        sum += (int64_t)residual[i];
    }
    return (int32_t)(((sum >> PC_MEAN_SHIFT) * (int64_t)PC_MEAN_FACTOR) >> 30);
#else
    (void)residual;
    return 0; /* RMSNorm leaves the mean in */
#endif
}

static void pc_normalise(const pc_norm *norm, const int32_t residual[PC_DIM], int16_t output[PC_DIM])
{
    const int32_t mean = pc_mean(residual);
    uint32_t sizes = 0U;
    for (uint16_t i = 0U; i < PC_DIM; i++) {
        const int32_t centred = residual[i] - mean;
        sizes |= (uint32_t)((centred < 0) ? -centred : centred);
    }
    /* Down to 24 bits, so that the sum of the squares fits in 60. */
    uint8_t down = 0U;
    while ((sizes >> down) >= ((uint32_t)1U << 24)) {
        down++;
    }
    uint64_t squares = norm->epsilon >> (2U * down);
    for (uint16_t i = 0U; i < PC_DIM; i++) {
        const int64_t centred = (int64_t)((residual[i] - mean) >> down);
        squares += (uint64_t)(centred * centred);
    }
    squares |= (uint64_t)(squares == 0U); /* a flat hop: everything is 0 whatever it is divided by */
    int32_t exponent = 0;
    const uint32_t inverse = pc_inverse_sqrt(squares, &exponent);
    for (uint16_t i = 0U; i < PC_DIM; i++) {
        const int64_t centred = (int64_t)((residual[i] - mean) >> down) * (int64_t)inverse;
        /* To Q30; at most 1, since no value is larger than the root of the sum of all squares. */
        const int64_t unit = ((exponent + 2) >= 1) ? pc_round_shift(centred, (uint8_t)(exponent + 2))
                                                   : (centred * ((int64_t)1 << -(exponent + 2)));
        output[i] = pc_affine(norm, i, pc_clamp_wide(unit, INT32_MAX));
    }
}
#endif

/* e^-distance in Q15; distance in Q(bits), not negative. */
static int32_t pc_exp_minus(uint32_t distance, uint8_t bits)
{
    const uint64_t halvings = ((uint64_t)distance * (uint64_t)PC_LOG2_E) >> (14U + bits); /* Q16 */
    if (halvings >= (16ULL << 16)) {
        return 0;
    }
    const uint32_t whole = (uint32_t)(halvings >> 16);
    return (int32_t)(pc_interpolate(PC_EXP2, (uint32_t)(halvings & 0xFFFFU), 7U) >> whole);
}

/* Logits in Q(bits) to probabilities in Q15. */
static void pc_softmax(int32_t *weight, uint16_t count, uint8_t bits)
{
    int32_t largest = weight[0];
    for (uint16_t i = 1U; i < count; i++) {
        largest = (weight[i] > largest) ? weight[i] : largest;
    }
    uint32_t sum = 0U; /* at least PC_ONE: the largest one's own */
    for (uint16_t i = 0U; i < count; i++) {
        weight[i] = pc_exp_minus((uint32_t)((int64_t)largest - (int64_t)weight[i]), bits);
        sum += (uint32_t)weight[i];
    }
    for (uint16_t i = 0U; i < count; i++) {
        weight[i] = (int32_t)((((uint32_t)weight[i] * (uint32_t)PC_ONE) + (sum / 2U)) / sum);
    }
}

static uint16_t pc_next(uint16_t slot)
{
    return (slot == (PC_CONTEXT - 1U)) ? 0U : (uint16_t)(slot + 1U);
}

/* Attention of one head over the hops in the rings, oldest first; writes over its part of the query. */
static void pc_attend(pc_state *state, const pc_block *block, uint16_t layer, uint16_t head)
{
    const uint16_t from = (uint16_t)(head * PC_HEAD_DIM);
    const uint16_t count = state->filled;
    const uint16_t oldest = (uint16_t)((state->slot + PC_CONTEXT + 1U - count) % PC_CONTEXT);
    const int32_t *const bias = &block->age_bias[(head * PC_CONTEXT) + (PC_CONTEXT - count)];
    int16_t *const query = &state->query[from];
    uint16_t slot = oldest;
    for (uint16_t age = 0U; age < count; age++) {
        const int64_t product = pc_dot_wide(query, &state->key[layer][slot][from], PC_HEAD_DIM);
        const int64_t logit = pc_round_shift(product, block->logit_shift) + (int64_t)bias[age];
        state->weight[age] = pc_clamp_wide(logit, INT32_MAX);
        slot = pc_next(slot);
    }
    pc_softmax(state->weight, count, block->logit_bits);
    int32_t sum[PC_HEAD_DIM] = {0};
    slot = oldest;
    for (uint16_t age = 0U; age < count; age++) {
        const int16_t *const value = &state->value[layer][slot][from];
        for (uint16_t i = 0U; i < PC_HEAD_DIM; i++) {
            sum[i] += state->weight[age] * (int32_t)value[i];
        }
        slot = pc_next(slot);
    }
    for (uint16_t i = 0U; i < PC_HEAD_DIM; i++) {
        query[i] = (int16_t)pc_clamp((sum[i] + (PC_ONE / 2)) >> 15, block->value.limit);
    }
}

static int16_t pc_best_token(const int16_t embedding[PC_DIM], int32_t scores[PC_CODES])
{
    int32_t result[PC_TILE];
    int32_t best = INT32_MIN;
    int16_t token = 0;
    for (uint16_t row = 0U; row < PC_CODES; row = (uint16_t)(row + PC_TILE)) {
        const uint16_t count = pc_rows(&PC_ENCODER.head, embedding, row, result);
        for (uint16_t i = 0U; i < count; i++) {
            if (result[i] > best) {
                best = result[i];
                token = (int16_t)(row + i);
            }
            if (scores != NULL) {
                scores[row + i] = result[i];
            }
        }
    }
    return token;
}

void pc_init(pc_state *state)
{
    (void)memset(state, 0, sizeof *state);
}

void pc_step(pc_state *state, const int16_t patch[PC_HOP], int16_t *token, int16_t embedding[PC_DIM],
             int32_t scores[PC_CODES])
{
    if (state->filled < PC_CONTEXT) {
        state->filled++;
    }
    (void)memset(state->residual, 0, sizeof state->residual);
    (void)memcpy(state->hidden, patch, PC_HOP * sizeof patch[0]); /* where it may be read in whole tiles */
    pc_add(&PC_ENCODER.embed, state->hidden, state->residual);
    for (uint16_t layer = 0U; layer < PC_LAYERS; layer++) {
        const pc_block *const block = &PC_ENCODER.blocks[layer];
        pc_normalise(&block->norm_attention, state->residual, state->normed);
        pc_apply(&block->query, state->normed, state->query);
        pc_apply(&block->key, state->normed, state->key[layer][state->slot]);
        pc_apply(&block->value, state->normed, state->value[layer][state->slot]);
        for (uint16_t head = 0U; head < PC_HEADS; head++) {
            pc_attend(state, block, layer, head);
        }
        pc_add(&block->out, state->query, state->residual);
        pc_normalise(&block->norm_mlp, state->residual, state->normed);
        pc_expand(block, state->normed, state->hidden);
        pc_add(&block->contract, state->hidden, state->residual);
    }
    state->slot = pc_next(state->slot);
    pc_normalise(&PC_ENCODER.norm, state->residual, state->normed);
    if (embedding != NULL) {
        (void)memcpy(embedding, state->normed, PC_DIM * sizeof embedding[0]);
    }
    *token = pc_best_token(state->normed, scores);
}
