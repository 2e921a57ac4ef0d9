/* wing.h - what crosses between the engine and a wing: a module of its own, opened at run time,
 * that is the backend for one kind of device.
 *
 * The wing exports one symbol, VALLEY_WING_SYMBOL, a const ValleyWing.  Everything else passes
 * through backend.h's table, so engine and wing must have been built from the same backend.h:
 * the first two members say whether they were.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

#define VALLEY_WING_SYMBOL "valley_wing"
/* Counts the changes of backend.h and of what is below that keep every size. */
#define VALLEY_WING_VERSION 1

typedef struct {
  guint version;   /* VALLEY_WING_VERSION; stays first */
  gsize ops_bytes; /* sizeof (ValleyOps) */
  /* How many devices there are; 0 fills @error with why there is none. */
  guint (*n_devices) (GError **error);
  /* @context: a CUcontext of that device that outlives the backend, or NULL for one of its own. */
  ValleyBackend *(*backend_new) (guint device, gpointer context, ValleyPrecision precision,
                                 GError **error);
} ValleyWing;

/* wing.c: the CUDA wing, opened by the first call; it stays open.  NULL: it was not found (the
 * error lists where it was looked for), or cannot be used. */
const ValleyWing *valley_wing_open (GError **error);
