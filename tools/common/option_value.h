/* SPDX-License-Identifier: MIT */
/* Values of options: text to type.  Private to tools/common. */
#ifndef SL_TOOLS_OPTION_VALUE_H
#define SL_TOOLS_OPTION_VALUE_H

#include "tools/common/options.h"

/* Room for the texts below; longer ones (an enum of many names) are cut. */
enum { SL_VALUE_TEXT = 512 };

/* Stores TEXT in the row's field of VALUES; false, and nothing stored, when it is not a value. */
bool sl_option_store(const struct sl_option *option, void *values, const char *text);

/* What the row takes, for messages: "a number from 0 to 5", "one of auto, memory, pread". */
void sl_option_wanted(const struct sl_option *option, char out[SL_VALUE_TEXT]);

/* Its range, for messages and help: "from 0 to 5", "at least 1"; empty when it has none. */
void sl_option_range(const struct sl_option *option, char out[SL_VALUE_TEXT]);

/* Its placeholder: "DIR", "auto|memory|pread"; empty for flags. */
void sl_option_placeholder(const struct sl_option *option, char out[SL_VALUE_TEXT]);

#endif
