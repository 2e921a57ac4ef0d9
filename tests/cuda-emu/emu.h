/* emu.h - what tests ask of the stand-in that no GPU offers.  C and C++.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Everything random (order of streams, blocks, warps, lanes) follows from @seed. */
void emu_set_seed (uint32_t seed);
/* The first fault since the last call, in words, or NULL; valid until the next call.  A program
 * that ends with a fault nobody took, or with device objects nobody freed, exits with 86. */
const char *emu_take_fault (void);
/* How much cudaMalloc gives out on each device. */
void emu_set_device_bytes (size_t bytes);
/* Memory, streams, events and graphs that were made and not freed, in words; NULL: none. */
const char *emu_leaks (void);
/* The largest copy of a kind (cudaMemcpyKind) since the last call: a picture's bytes show. */
size_t emu_take_largest_copy (int kind);
/* The @n-th allocation from now on fails: of device or pinned memory, or what a stream, an event, a
 * recording or an executable graph needs; 0: none does. */
void emu_fail_allocation_at (uint64_t n);
/* The @n-th kernel from now on ends its context, as a fault would, but is no fault that somebody
 * has to take; 0: none does. */
void emu_fail_kernel_at (uint64_t n);
/* Kernels run, and how often the host waited for a stream, since the start. */
uint64_t emu_kernels_run (void);
uint64_t emu_stream_waits (void);

/* ---- only where the stand-in was built to watch every access (watch.h) ---- */

/* What is looked for; at first what VALLEY_EMU_RACES, _COUNTS and _COUNTS_ONLY (which leaves out
 * products' arithmetic) of the environment say.  A race is a fault of its kernel. */
void emu_watch (bool for_races, bool for_counts);
void emu_count_reset (void);
/* What kernels read, wrote and multiplied since then; valid until the next call. */
const char *emu_count_json (void);

#ifdef __cplusplus
}
#endif
