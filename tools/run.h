/* run.h - `valley run`.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "options.h"

/* Prints the answer to standard output as it comes. */
gboolean run_command (const Options *options, GError **error);
