/* async.cpp - copies into shared memory that nobody waits for yet.
 *
 * A copy is done when its thread waits for it, or at once, as chance has it: whoever reads too
 * early finds what was there before, whoever asks too early finds that overwritten.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"

#include <vector>

struct Copy {
  void *to;
  const void *from; /* NULL: zeros */
  size_t bytes;
  unsigned group;
};

struct Queue {
  std::vector<Copy> copies;
  unsigned n_groups; /* committed */
};

static std::vector<Queue> queues; /* of the block's threads */

static Queue *
own_queue (void)
{
  const EmuPlace &p = emu_place;

  return &queues[p.thread.x + p.block_size.x * (p.thread.y + p.block_size.y * p.thread.z)];
}

static void
perform (const Copy &copy)
{
  if (copy.from != NULL)
    memcpy (copy.to, copy.from, copy.bytes);
  else
    memset (copy.to, 0, copy.bytes);
}

void
emu_async_start_block (size_t n_threads)
{
  queues.assign (n_threads, Queue{});
}

void
emu_async_end_thread (void)
{
  if (!own_queue ()->copies.empty ())
    emu_kernel_fault (cudaErrorLaunchFailure, "ends, but never waited for %zu copies",
                      own_queue ()->copies.size ());
}

void
emu_copy_async (void *to, const void *from, size_t bytes)
{
  Queue *queue = own_queue ();
  Copy copy = { to, from, bytes, queue->n_groups };

  if ((uintptr_t) to % bytes != 0 || (uintptr_t) from % bytes != 0)
    emu_kernel_fault (cudaErrorMisalignedAddress, "a copy of %zu bytes %s a misaligned address",
                      bytes, (uintptr_t) to % bytes != 0 ? "to" : "from");
  emu_watch_copy_start (to, from, bytes);
  if (emu_random (2))
    perform (copy); /* and once more when waited for: it may happen at any time in between */
  queue->copies.push_back (copy);
}

void
emu_copy_commit (void)
{
  own_queue ()->n_groups++;
}

void
emu_copy_wait (unsigned n_left)
{
  Queue *queue = own_queue ();
  size_t n_done = 0;

  while (n_done < queue->copies.size () && queue->copies[n_done].group + n_left < queue->n_groups)
    perform (queue->copies[n_done++]);
  for (size_t i = 0; i < n_done; i++)
    emu_watch_copy_end (queue->copies[i].to, queue->copies[i].bytes);
  queue->copies.erase (queue->copies.begin (), queue->copies.begin () + (ptrdiff_t) n_done);
}
