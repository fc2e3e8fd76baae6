/* Pulsecode encoder: a band-passed, gain-normalised pulse wave in, one token a hop out.
 *
 * C11, integers only, no heap, no recursion, no library but memset; all tables are const. One encoder may serve
 * many states; a state belongs to one stream. Not a medical device.
 *
 * Use:
 *     static pc_state state;
 *     pc_init(&state);
 *     for each hop of PC_HOP samples:  pc_step(&state, patch, &token, NULL, NULL);
 *
 * Formats (Qn: the integer is the value times 2^n):
 *     patch       int16, Q12: samples in units of their running RMS, clipped to +-5 (so +-20480); see
 *                 pulsecode_frontend.h, which makes patches of raw counts
 *     token       0 .. PC_CODES-1; at hop n it labels the patch of hop n - PC_LOOKAHEAD
 *     embedding   int16, Q(PC_EMBEDDING_BITS)
 *     scores      int32, Q(PC_SCORE_BITS), unnormalised log probabilities
 */
#ifndef PULSECODE_ENCODER_H
#define PULSECODE_ENCODER_H

#include <stdint.h>

#include "pulsecode_model.h"

#define PC_PATCH_BITS 12

/* The left context, as rings that are written in place, and the scratch of one hop. Keep it in static memory. */
typedef struct {
    int16_t key[PC_LAYERS][PC_CONTEXT][PC_DIM];
    int16_t value[PC_LAYERS][PC_CONTEXT][PC_DIM];
    int32_t residual[PC_DIM];
    int16_t normed[PC_TILED_DIM];
    int16_t query[PC_TILED_DIM];   /* then the attended values */
    int16_t hidden[PC_TILED_WIDE]; /* the MLP's inside; at first the patch */
    int32_t weight[PC_CONTEXT]; /* attention logits, then probabilities in Q15 */
    uint16_t slot;              /* where this hop's key and value go */
    uint16_t filled;            /* hops in the rings, this one included; at most PC_CONTEXT */
} pc_state;

/* Start of a stream, and after every gap in it. Tokens of the first PC_WARMUP_HOPS hops are not to be believed. */
void pc_init(pc_state *state);

/* One hop. `embedding` and `scores` may be NULL. */
void pc_step(pc_state *state, const int16_t patch[PC_HOP], int16_t *token, int16_t embedding[PC_DIM],
             int32_t scores[PC_CODES]);

#endif
