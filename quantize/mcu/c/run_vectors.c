/* Runs the encoder over patches from a file: for tests on a computer, and by semihosting on an emulated Cortex-M.
 *
 *     run_vectors IN OUT
 *
 * IN: streams, each an int32 number of hops and then so many patches. OUT: for each hop the token as int32, the scores
 * as int32, the embedding as int16, and what the front end makes of the same numbers as if they were raw counts. All
 * little-endian. An emulated board has no arguments: it reads patches.bin, writes results.bin, and prints the ticks of
 * its clock that front end and encoder took. */
#include <stdint.h>
#include <stdio.h>

#include "pulsecode_encoder.h"
#include "pulsecode_frontend.h"

#ifdef PC_BOARD
#include "board.h"
#else
static uint32_t board_ticks(void)
{
    return 0U;
}
#endif

static pc_state state;
static pc_frontend frontend;
static int16_t patch[PC_HOP];
static int32_t samples[PC_HOP];
static int16_t filtered[PC_HOP];
static int16_t embedding[PC_DIM];
static int32_t scores[PC_CODES];

static int put(const void *from, size_t size, FILE *into)
{
    return fwrite(from, size, 1U, into) == 1U;
}

static int one_stream(FILE *in, FILE *out, int32_t hops, uint64_t *ticks)
{
    pc_init(&state);
    pc_frontend_init(&frontend);
    for (int32_t hop = 0; hop < hops; hop++) {
        int16_t token = -1;
        if (fread(patch, sizeof patch, 1U, in) != 1U) {
            return 0;
        }
        for (uint16_t i = 0U; i < PC_HOP; i++) {
            samples[i] = (int32_t)patch[i];
        }
        const uint32_t begun = board_ticks();
        pc_frontend_step(&frontend, samples, filtered);
        pc_step(&state, patch, &token, embedding, scores);
        *ticks += (uint64_t)(uint32_t)(board_ticks() - begun);
        const int32_t wide = token;
        if (!put(&wide, sizeof wide, out) || !put(scores, sizeof scores, out) ||
            !put(embedding, sizeof embedding, out) || !put(filtered, sizeof filtered, out)) {
            return 0;
        }
    }
    return 1;
}

int main(int argc, char **argv)
{
    FILE *const in = fopen((argc == 3) ? argv[1] : "patches.bin", "rb");
    FILE *const out = fopen((argc == 3) ? argv[2] : "results.bin", "wb");
    int32_t hops = 0;
    uint64_t ticks = 0U;
    uint32_t total = 0U;
    int good = (in != NULL) && (out != NULL);
    while (good && (fread(&hops, sizeof hops, 1U, in) == 1U)) {
        good = one_stream(in, out, hops, &ticks);
        total += (uint32_t)hops;
    }
    good = (out != NULL) && (fclose(out) == 0) && good;
#ifdef PC_BOARD
    (void)printf("hops %lu kiloticks %lu per-million %lu\n", (unsigned long)total, (unsigned long)(ticks / 1000U),
                 (unsigned long)board_ticks_of_a_million());
#else
    (void)total;
#endif
    return good ? 0 : 1;
}
