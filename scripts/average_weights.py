#!/usr/bin/env python3
"""Mean of two embedded weights, number by number, e.g. before and after a further training (pip install safetensors numpy).

    scripts/average_weights.py A.safetensors B.safetensors OUT.safetensors
"""
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

a, b = (safe_open(path, "np") for path in sys.argv[1:3])
if set(a.keys()) != set(b.keys()) or a.metadata()["config"] != b.metadata()["config"]:
    sys.exit("these are not weights of one network")
mean = {k: ((a.get_tensor(k).astype(np.float32) + b.get_tensor(k)) / 2).astype(a.get_tensor(k).dtype) for k in sorted(a.keys())}
# The digest that a training states is that of its own numbers.
save_file(mean, sys.argv[3], {k: v for k, v in b.metadata().items() if k != "sha256"})
