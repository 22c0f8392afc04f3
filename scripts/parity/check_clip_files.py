#!/usr/bin/env python3
"""A BiomedCLIP fixture (model.safetensors, vocab.txt, config.json, expected.safetensors) through files alone: imports the model with
`volseg weights import`, makes each map with `volseg prompt --save-saliency` and compares it. Needs numpy, pillow, safetensors.

    python3 scripts/parity/check_clip_files.py target/release/volseg FOLDER
"""
import gzip, json, resource, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

LAYERS = {("last_norm2", "cls"): "norm2_cls", ("last_norm1", "patch"): "norm1_patch", ("prev_block", "patch"): "block_patch"}
volseg, folder = sys.argv[1], Path(sys.argv[2])
expected, config = load_file(folder / "expected.safetensors"), json.loads((folder / "config.json").read_text())
worst = [0.0, 0.0]
with tempfile.TemporaryDirectory() as tmp:
    tmp, start = Path(tmp), time.perf_counter()
    subprocess.run([volseg, "weights", "import", folder / "model.safetensors", "-o", tmp / "clip.safetensors", "--arch", "biomedclip",
                    "--config", folder / "config.json", "--vocab", folder / "vocab.txt"], check=True)
    print(f"imported in {time.perf_counter() - start:.1f} s")
    Image.fromarray(expected["resized_crop_u8"]).save(tmp / "crop.png")
    for cam in config["cams"]:
        theirs, start = expected[f"{cam['key']}.cam"], time.perf_counter()
        subprocess.run([volseg, "prompt", tmp / "crop.png", "-o", tmp / "p.json", "--source", tmp / "clip.safetensors", "--text", cam["prompt"],
                        "--layer", LAYERS[cam["layer"], cam["rank"]], "--top-k", str(cam["k"]), "--no-cache", "--modality", "xray", "--quiet",
                        "--save-saliency", tmp / "map.nii.gz"], check=True)
        ours = np.frombuffer(gzip.decompress((tmp / "map.nii.gz").read_bytes())[-4 * theirs.size:], "<f4").reshape(theirs.shape)
        score = json.loads((tmp / "p.json").read_text())["prompts"][0]["trace"]["similarity"]
        off = [float(np.abs(ours - theirs).max()), abs(score - float(expected[f"{cam['key']}.score"][0]))]
        worst = [max(w, o) for w, o in zip(worst, off)]
        print(f"{cam['key']}: map off by {off[0]:.1e}, score by {off[1]:.1e}, {time.perf_counter() - start:.1f} s")
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"worst: maps {worst[0]:.1e} (allowed 5e-3), scores {worst[1]:.1e} (allowed 1e-2); largest process {peak:.0f} MiB")
sys.exit(worst[0] > 5e-3 or worst[1] > 1e-2)
