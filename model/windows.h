/* windows.h - what a window policy asks of its settings, and of memory.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

/* FALSE: the settings make no sense together, or name a policy that is not there. */
gboolean valley_windowing_check (const ValleyWindowing *windowing, GError **error);
