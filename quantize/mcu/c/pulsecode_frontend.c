/* See pulsecode_frontend.h. */
#include "pulsecode_frontend.h"

#include <string.h>

#include "pulsecode_fixed.h"
#include "pulsecode_types.h"

#define PC_COUNT_BITS 6U                  /* fraction of a count that the filter works in */
#define PC_COUNT_LIMIT ((int32_t)1 << 29) /* of its signals: five products with coefficients below 4 fit in 64 bits */
#define PC_SOS_BITS 29U

static void pc_shift_in(int32_t past[2], int32_t value)
{
    past[1] = past[0];
    past[0] = value;
}

/* One second-order section in direct form I. What is rounded off goes into the next two samples, so that the error is
 * a second difference: poles this close to 1 would make a drift of it otherwise. */
static int32_t pc_section(pc_frontend *frontend, uint16_t i, int32_t x)
{
    const int32_t *const sos = PC_SOS[i];
    const int32_t *const in = frontend->past[i];
    const int32_t *const out = frontend->past[i + 1U];
    int32_t *const rest = frontend->rest[i];
    int64_t sum = (2 * (int64_t)rest[0]) - (int64_t)rest[1];
    sum += (int64_t)sos[0] * (int64_t)x;
    sum += (int64_t)sos[1] * (int64_t)in[0];
    sum += (int64_t)sos[2] * (int64_t)in[1];
    sum -= (int64_t)sos[3] * (int64_t)out[0];
    sum -= (int64_t)sos[4] * (int64_t)out[1];
    pc_shift_in(rest, (int32_t)(sum & (((int64_t)1 << PC_SOS_BITS) - 1)));
    return pc_clamp_wide(sum >> PC_SOS_BITS, PC_COUNT_LIMIT);
}

static int32_t pc_band_pass(pc_frontend *frontend, int32_t sample)
{
    const int64_t distance = (int64_t)sample - (int64_t)frontend->origin;
    int32_t value = pc_clamp_wide(distance * ((int64_t)1 << PC_COUNT_BITS), PC_COUNT_LIMIT);
    for (uint16_t i = 0U; i < PC_SECTIONS; i++) {
        const int32_t result = pc_section(frontend, i, value);
        pc_shift_in(frontend->past[i], value);
        value = result;
    }
    pc_shift_in(frontend->past[PC_SECTIONS], value);
    return value;
}

/* The mean of the two middle values, or the middle one. */
static uint64_t pc_median(pc_frontend *frontend)
{
    const uint16_t count = frontend->filled;
    uint64_t *const sorted = frontend->sorted;
    for (uint16_t i = 0U; i < count; i++) {
        const uint64_t value = frontend->energy[i];
        uint16_t place = i;
        while ((place > 0U) && (sorted[place - 1U] > value)) {
            sorted[place] = sorted[place - 1U];
            place--;
        }
        sorted[place] = value;
    }
    const uint64_t low = sorted[(count - 1U) / 2U];
    return low + ((sorted[count / 2U] - low) / 2U);
}

void pc_frontend_init(pc_frontend *frontend)
{
    (void)memset(frontend, 0, sizeof *frontend);
}

void pc_frontend_step(pc_frontend *frontend, const int32_t samples[PC_HOP], int16_t patch[PC_HOP])
{
    if (frontend->filled == 0U) {
        frontend->origin = samples[0];
    }
    uint64_t energy = 0U;
    for (uint16_t i = 0U; i < PC_HOP; i++) {
        const int32_t value = pc_band_pass(frontend, samples[i]);
        frontend->filtered[i] = value;
        energy += (uint64_t)((int64_t)value * (int64_t)value) >> PC_ENERGY_SHIFT;
    }
    frontend->energy[frontend->slot] = energy;
    frontend->slot = (frontend->slot == (PC_GAIN_HOPS - 1U)) ? 0U : (uint16_t)(frontend->slot + 1U);
    if (frontend->filled < PC_GAIN_HOPS) {
        frontend->filled++;
    }
    const uint64_t median = pc_median(frontend);
    int32_t exponent = 0;
    const uint32_t inverse = pc_inverse_sqrt((median == 0U) ? 1U : median, &exponent);
    /* filtered / sqrt(median / hop): PC_GAIN holds sqrt(hop) and the formats; 32 + exponent is at least 1. */
    for (uint16_t i = 0U; i < PC_HOP; i++) {
        const int64_t raised = (int64_t)frontend->filtered[i] * (int64_t)inverse; /* at most 2^46 */
        const int64_t value = pc_round_shift(raised * (int64_t)PC_GAIN, (uint8_t)(32 + exponent));
        patch[i] = (median == 0U) ? 0 : (int16_t)pc_clamp_wide(value, PC_CLIP);
    }
}
