/* patches.h - a picture's pixels as a tower's patch rows on the session's device, wherever the
 * picture lies.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "engine.h"

/* How each tower cuts a picture; @sizes as valley_model_input_sizes gives them. */
ValleyPatchShape valley_siglip_patch_shape (const ValleySiglipConfig *siglip);
ValleyPatchShape valley_eagle_patch_shape (const ValleyEagleConfig *eagle,
                                           const ValleyInputSizes *sizes);

/* In elements.  Rows begin at multiples of 16 bytes where they have 16 bits an element: SigLIP's 588
 * would keep tensor cores out of its first product. */
gsize valley_patches_stride (const ValleyBackend *backend, const ValleyPatchShape *shape);

/* Fresh tensors; errors end up on the stream.  @tile: of a tiled picture, else 0.  @positions: see
 * valley_eagle_patches. */
void valley_patches_for_siglip (const ValleyModel *model, ValleyStream *stream,
                                const ValleyPicture *picture, guint tile, ValleyTensor *patches);
void valley_patches_for_eagle (const ValleyModel *model, ValleyStream *stream,
                               const ValleyPicture *picture, ValleyTensor *patches,
                               gint32 *positions);
