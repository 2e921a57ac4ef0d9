/* room.h - whether a device has room for a model's weights, and for what else.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "engine.h"

/* Before the weights are loaded; FALSE says how much is needed, how much is free, and what needs
 * less.  TRUE where the device does not say. */
gboolean valley_model_has_room (const ValleyModel *model, GError **error);

/* What the device of a loaded model has beside the weights, whoever uses it; G_MAXUINT64 where it
 * does not say.  Memory that a session works in comes out of it, too. */
guint64 valley_model_spare_bytes (ValleyModel *model);
