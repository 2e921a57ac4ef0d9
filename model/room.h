/* room.h - whether a device has room for a model's weights.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "engine.h"

/* Before the weights are loaded; FALSE says how much is needed, how much is free, and what needs
 * less.  TRUE where the device does not say. */
gboolean valley_model_has_room (const ValleyModel *model, GError **error);
