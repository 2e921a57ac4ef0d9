/* programme.h - the demo's own television programme: test bars, moving shapes, snow, black.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/app/gstappsrc.h>

/* Makes @appsrc produce the programme (640x360, 25 frames a second), once or @loop for ever.
 * Every picture is drawn when it is asked for; nothing is read from disk. */
void programme_attach (GstAppSrc *appsrc, gboolean loop);
guint programme_seconds (void);
