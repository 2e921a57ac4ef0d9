/* valleycaption.h - a bin that burns captions into the video.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

#define GST_TYPE_VALLEY_CAPTION (gst_valley_caption_get_type ())
G_DECLARE_FINAL_TYPE (GstValleyCaption, gst_valley_caption, GST, VALLEY_CAPTION, GstBin)

G_END_DECLS
