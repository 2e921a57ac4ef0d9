/* video_frame.h - what a ValleyVideo says about resizing it: whether it can be, which coefficients
 * each pass takes, and the color matrix in integers.  For the CPU (video.c) and for frames in a
 * device's memory (devicepicture.c).
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"
#include "video_taps.h"

/* FALSE where a value is outside what valley.h says, or the small picture's size is absurd. */
gboolean valley_video_is_sane (const ValleyVideo *video, guint width, guint height);

/* Of plane @i's rows to a picture of @height, and of component @i's columns to one of @width. */
ValleyTapsKey valley_video_down_key (const ValleyVideo *video, guint i, guint height);
ValleyTapsKey valley_video_across_key (const ValleyVideo *video, guint i, guint width);

/* FALSE where a factor is too large for a color matrix, or not a number. */
gboolean valley_video_matrix_init (ValleyVideoMatrix *matrix, const double from[3][4]);
