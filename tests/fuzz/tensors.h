/* tensors.h - touching everything that an opened checkpoint promises.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "safetensors.h"

/* Reads every byte of every tensor and loads each onto a CPU backend; the sanitizers watch. */
void fuzz_touch_tensors (const ValleySafetensors *files);
