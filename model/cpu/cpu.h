/* cpu.h - what the rest of the engine may ask of the CPU besides backend.h.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* TRUE when bf16 products run on instructions of their own (AVX512-BF16), so that
 * VALLEY_PRECISION_AUTO should mean bf16.  Obeys VALLEY_CPU and ONEDNN_MAX_CPU_ISA. */
gboolean valley_cpu_has_native_bf16 (void);
