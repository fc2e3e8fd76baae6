/* The clock of an emulated board, see board.c. */
#ifndef PULSECODE_BOARD_H
#define PULSECODE_BOARD_H

#include <stdint.h>

/* Ticks since the start; wraps. */
uint32_t board_ticks(void);

/* Ticks that a loop of a million instructions takes: the clock's unit, measured. */
uint32_t board_ticks_of_a_million(void);

#endif
