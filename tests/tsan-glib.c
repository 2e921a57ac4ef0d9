/* tsan-glib.c - tells ThreadSanitizer about GLib's locks, which Debian's GLib makes of futexes
 * that it cannot see, and about its counts of references; without this every value behind a GMutex
 * looks like a race, and the last owner's clearing of what another one read before.
 * Preloaded by meson in builds with -Db_sanitize=thread, and harmless in other processes.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <glib.h>

#undef g_once_init_enter
#undef g_once_init_leave

/* Weak: a shell that a test starts has no ThreadSanitizer in it. */
void __tsan_acquire (void *address) __attribute__ ((weak));
void __tsan_release (void *address) __attribute__ ((weak));

/* The function of the same name that this one stands before, looked up once. */
#define NEXT(name)                                                                                 \
  static __typeof__ (&name) next;                                                                  \
  if (next == NULL)                                                                                \
  next = (__typeof__ (&name)) dlsym (RTLD_NEXT, #name)

static void
acquired (volatile void *address)
{
  if (__tsan_acquire != NULL)
    __tsan_acquire ((void *) address);
}

static void
releasing (volatile void *address)
{
  if (__tsan_release != NULL)
    __tsan_release ((void *) address);
}

__attribute__ ((visibility ("default"))) void
g_mutex_lock (GMutex *mutex)
{
  NEXT (g_mutex_lock);
  next (mutex);
  acquired (mutex);
}

__attribute__ ((visibility ("default"))) gboolean
g_mutex_trylock (GMutex *mutex)
{
  gboolean locked;

  NEXT (g_mutex_trylock);
  locked = next (mutex);
  if (locked)
    acquired (mutex);
  return locked;
}

__attribute__ ((visibility ("default"))) void
g_mutex_unlock (GMutex *mutex)
{
  NEXT (g_mutex_unlock);
  releasing (mutex);
  next (mutex);
}

__attribute__ ((visibility ("default"))) void
g_rec_mutex_lock (GRecMutex *mutex)
{
  NEXT (g_rec_mutex_lock);
  next (mutex);
  acquired (mutex);
}

__attribute__ ((visibility ("default"))) gboolean
g_rec_mutex_trylock (GRecMutex *mutex)
{
  gboolean locked;

  NEXT (g_rec_mutex_trylock);
  locked = next (mutex);
  if (locked)
    acquired (mutex);
  return locked;
}

__attribute__ ((visibility ("default"))) void
g_rec_mutex_unlock (GRecMutex *mutex)
{
  NEXT (g_rec_mutex_unlock);
  releasing (mutex);
  next (mutex);
}

__attribute__ ((visibility ("default"))) void
g_cond_wait (GCond *cond, GMutex *mutex)
{
  NEXT (g_cond_wait);
  releasing (mutex);
  next (cond, mutex);
  acquired (mutex);
}

__attribute__ ((visibility ("default"))) gboolean
g_cond_wait_until (GCond *cond, GMutex *mutex, gint64 end_time)
{
  gboolean signalled;

  NEXT (g_cond_wait_until);
  releasing (mutex);
  signalled = next (cond, mutex, end_time);
  acquired (mutex);
  return signalled;
}

__attribute__ ((visibility ("default"))) gboolean
g_once_init_enter (volatile void *location)
{
  gboolean first;

  NEXT (g_once_init_enter);
  first = next (location);
  acquired (location);
  return first;
}

__attribute__ ((visibility ("default"))) void
g_once_init_leave (volatile void *location, gsize result)
{
  NEXT (g_once_init_leave);
  releasing (location);
  next (location, result);
}

/* Whoever gives up a reference is done before the last one clears. */
static __thread GDestroyNotify clear_box;

static void
clear_last (gpointer box)
{
  acquired (box);
  if (clear_box != NULL)
    clear_box (box);
}

__attribute__ ((visibility ("default"))) void
g_atomic_rc_box_release_full (gpointer box, GDestroyNotify clear)
{
  GDestroyNotify outer = clear_box; /* of a box that owns this one */

  NEXT (g_atomic_rc_box_release_full);
  releasing (box);
  clear_box = clear;
  next (box, clear_last);
  clear_box = outer;
}

__attribute__ ((visibility ("default"))) void
g_atomic_rc_box_release (gpointer box)
{
  g_atomic_rc_box_release_full (box, NULL);
}
