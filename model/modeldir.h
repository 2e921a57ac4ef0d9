/* modeldir.h - where this library lies, and so what came with it.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* The folder of the file that the engine's code was loaded from, or NULL.  Free with g_free. */
char *valley_library_dir (void);
