"""python tools/train --init FOLDER --clips DIR --out FOLDER: see finetune.py."""

import finetune

finetune.main()
