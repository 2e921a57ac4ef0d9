/* resize_table.h - which inputs an output of the resize is made of, and by what weights.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "resize_kernels.h"

/* A reference to the table, from the cache or fresh; NULL when memory is short.
 * @align: what the first input of every output is a multiple of (tiles start at quads). */
const ValleyResizeTable *valley_resize_table_get (const ValleyResizeKernels *kernels, guint in,
                                                  guint out, guint align);
void valley_resize_table_unref (const ValleyResizeTable *table); /* NULL is fine */
