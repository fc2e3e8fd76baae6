/* Start-up and clock of the MPS2 boards that QEMU emulates (Cortex-M4: mps2-an386, Cortex-M33: mps2-an505), for tests.
 * The loader has put every section where it belongs, so there is nothing to copy. */
#include "board.h"

#include <stdlib.h>
#include <string.h>

#define SYSTICK_CONTROL (*(volatile uint32_t *)0xE000E010U)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xE000E014U)
#define SYSTICK_CURRENT (*(volatile uint32_t *)0xE000E018U)
#define SYSTICK_BITS 24U

extern uint32_t __bss_start__[];
extern uint32_t __bss_end__[];
extern uint32_t __stack_top__[];
extern void initialise_monitor_handles(void);
extern int main(int argc, char **argv);
void board_start(void);
void _fini(void); /* newlib's exit() asks for it; the start files that have it are not used here */

static volatile uint32_t turns;

static void on_systick(void)
{
    turns++;
}

static void on_fault(void)
{
    abort();
}

void _fini(void)
{
}

void board_start(void)
{
    (void)memset(__bss_start__, 0, (size_t)((uintptr_t)__bss_end__ - (uintptr_t)__bss_start__));
    initialise_monitor_handles();
    SYSTICK_RELOAD = (1UL << SYSTICK_BITS) - 1UL;
    SYSTICK_CURRENT = 0U;
    SYSTICK_CONTROL = 7U; /* the processor's clock, with interrupt, on */
    exit(main(0, NULL));
}

uint32_t board_ticks(void)
{
    uint32_t before;
    uint32_t left;
    do {
        before = turns;
        left = SYSTICK_CURRENT;
    } while (before != turns);
    return (before << SYSTICK_BITS) - left;
}

uint32_t board_ticks_of_a_million(void)
{
    uint32_t rounds = 500000U; /* of two instructions */
    const uint32_t begun = board_ticks();
    __asm__ volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(rounds) : : "cc");
    return board_ticks() - begun;
}

typedef struct {
    uint32_t *stack;
    void (*handlers[15])(void); /* reset, faults and other exceptions, SysTick the last */
} board_vectors;

__attribute__((section(".vectors"), used)) static const board_vectors vectors = {
    __stack_top__,
    {board_start, on_fault, on_fault, on_fault, on_fault, on_fault, NULL, NULL, NULL, NULL, on_fault, on_fault, NULL,
     on_fault, on_systick},
};
