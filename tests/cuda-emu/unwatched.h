/* unwatched.h - what is told where nobody watches; included by watch.h, which says what it means.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#define EMU_UNWATCHED inline

static inline void
emu_watch_kernel (const EmuLaunch &)
{
}
static inline void
emu_watch_block (uint64_t, unsigned)
{
}
static inline void
emu_watch_block_barrier (void)
{
}
static inline void
emu_watch_warp_barrier (unsigned, unsigned)
{
}
static inline void
emu_watch_kernel_end (void)
{
}
static inline void
emu_watch_product (const EmuProduct &)
{
}
static inline void
emu_watch_atomic (const void *, size_t)
{
}
static inline void
emu_watch_tensor_flops (uint64_t)
{
}
static inline void
emu_watch_copy_start (const void *, const void *, size_t)
{
}
static inline void
emu_watch_copy_end (const void *, size_t)
{
}
static inline bool
emu_counts_only (void)
{
  return false;
}
struct EmuClock {};
static inline EmuClock
emu_order_of_host (void)
{
  return {};
}
static inline EmuClock
emu_order_of_stream (const void *)
{
  return {};
}
static inline void
emu_order_stream_learns (const void *, const EmuClock &)
{
}
static inline void
emu_order_host_learns (const EmuClock &)
{
}
static inline void
emu_order_begin (const void *, const EmuClock &)
{
}
static inline void
emu_order_end (void)
{
}
static inline void
emu_order_forget (void)
{
}
static inline cudaError_t
emu_order_range (const char *, const void *, size_t, bool)
{
  return cudaSuccess;
}
