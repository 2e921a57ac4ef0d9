/* error.c - the engine's error domain and version.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valley.h"

G_DEFINE_QUARK (valley-error-quark, valley_error)

const char *
valley_version (void)
{
  return VALLEY_VERSION;
}
