/* Raw counts in, patches for pc_step out: band-pass, running gain, clip. The same function as the Python front end's,
 * in fixed point. Samples must come at PC_RATE_HZ; resample before if the sensor runs at another rate.
 *
 *     static pc_frontend frontend;
 *     pc_frontend_init(&frontend);
 *     for each hop:  pc_frontend_step(&frontend, samples, patch);
 */
#ifndef PULSECODE_FRONTEND_H
#define PULSECODE_FRONTEND_H

#include <stdint.h>

#include "pulsecode_model.h"

typedef struct {
    int32_t origin; /* the first sample, so that the filter does not see a step */
    int32_t past[PC_SECTIONS + 1][2]; /* the last two inputs of each section, and outputs of the last, Q6 */
    int32_t rest[PC_SECTIONS][2];     /* what rounding left at the last two samples */
    int32_t filtered[PC_HOP];         /* this hop, Q6 */
    uint64_t energy[PC_GAIN_HOPS];    /* of the last hops, as a ring */
    uint64_t sorted[PC_GAIN_HOPS];
    uint16_t slot;
    uint16_t filled;
} pc_frontend;

/* Start of a stream, and after every gap in it. */
void pc_frontend_init(pc_frontend *frontend);

/* One hop of samples, in counts of at most 24 bits. */
void pc_frontend_step(pc_frontend *frontend, const int32_t samples[PC_HOP], int16_t patch[PC_HOP]);

#endif
