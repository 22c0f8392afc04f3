"""The real MONAI Label client (PyPI `monailabel`) against `volseg serve --monai-label`.

    pip install requests numpy pynrrd && pip install --no-deps monailabel      # Python 3.12 at most: the client uses `cgi`
    python scripts/peers/monailabel_client.py target/release/volseg

Every call of the client class is made once, with a token and without; masks are read with pynrrd. Prints one line a check.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nrrd
import numpy as np
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

volseg = Path(sys.argv[1]).resolve()
checks = 0


def check(what, fine, seen=""):
    global checks
    if not fine:
        sys.exit(f"FAILED: {what}: {seen}")
    checks += 1
    print(f"ok: {what}")


class Server:
    def __init__(self, folder, token=None, studies=None):
        self.port_file = folder / f"port{time.time_ns()}"
        environment = dict(os.environ, **({"VOLSEG_TOKEN": token} if token else {}))
        command = [volseg, "serve", "--monai-label", "--listen", "127.0.0.1:0", "--port-file", self.port_file,
                   "--data", folder / "data", "--temp", folder, "--quiet"]
        command += ["--studies", studies] if studies else []
        self.process = subprocess.Popen([str(c) for c in command], env=environment)
        for _ in range(300):
            if self.port_file.exists():
                break
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{self.port_file.read_text().strip()}"

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=40)


def grid(path):
    header = nrrd.read_header(str(path))
    return header["sizes"].tolist(), header["space directions"].tolist(), header["space origin"].tolist()


def same_grid(a, b):
    return all(np.allclose(x, y, atol=1e-3) for x, y in zip(grid(a), grid(b)))


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    subprocess.run([volseg, "phantom", "--modality", "ct", "--size", "small", "--seed", "3", "-o", folder / "ct", "--quiet"],
                   check=True)
    studies = folder / "studies"
    studies.mkdir()
    (folder / "ct/image.nii.gz").rename(studies / "case_a.nii.gz")
    image = studies / "case_a.nii.gz"
    reference = folder / "reference.nrrd"
    subprocess.run([volseg, "convert", image, "-o", reference, "--quiet"], check=True)
    sizes = nrrd.read_header(str(reference))["sizes"].tolist()

    server = Server(folder, studies=studies)
    client = MONAILabelClient(server.url, tmpdir=str(folder), client_id="peer")
    check("no log-in is needed", client.auth_enabled() is False)
    info = client.info()
    kinds = {name: m["type"] for name, m in info["models"].items()}
    check("info has automatic and interactive models", {"segmentation", "deepgrow"} <= set(kinds.values()), kinds)
    check("models have all five keys", all({"type", "labels", "dimension", "description", "config"} <= set(m)
                                           for m in info["models"].values()))
    auto = next(n for n, m in info["models"].items() if m["type"] == "segmentation")
    click = next(n for n, m in info["models"].items() if m["type"] == "deepgrow" and m["dimension"] == 2)
    click3d = next(n for n, m in info["models"].items() if m["type"] == "deepgrow" and m["dimension"] == 3)
    names = info["models"][auto]["labels"]
    check("label values are 1 to N", sorted(names.values()) == list(range(1, len(names) + 1)), names)

    session = client.create_session(str(image))["session_id"]
    check("a session is there", bool(client.get_session(session)))

    options = {"result_extension": ".nrrd", "result_dtype": "uint8", "threshold": 0.5, "device": "auto"}
    mask, params = client.infer(auto, "case_a", dict(options), session_id=session)
    values = set(np.unique(nrrd.read(mask)[0]).tolist()) - {0}
    check("automatic inference finds organs", len(values) >= 3 and max(values) <= len(names), values)
    check("its names are those of info", params["label_names"] == names)
    check("its mask lies on the image's grid", same_grid(mask, reference), (grid(mask), grid(reference)))
    centre = [sizes[0] // 2, sizes[1] // 2, sizes[2] // 2]
    mask, params = client.infer(click, "case_a", dict(options, foreground=[centre], background=[], slice=centre[2],
                                                      label="Segment_1"), session_id=session)
    data, _ = nrrd.read(mask)
    used = np.unique(np.nonzero(data)[2]).tolist()
    check("a click answers on its slice alone", used in ([], [centre[2]]), used)
    roi = [sizes[0] - 10, 10, 10, sizes[1] - 10, 2, sizes[2] + 4]
    mask, _ = client.infer(click3d, "case_a", dict(options, foreground=[centre], background=[], roi=roi),
                           session_id=session)
    check("a box is sorted and clipped", same_grid(mask, reference))
    mask, _ = client.infer(auto, "case_a", dict(options), file=str(image))
    check("an attached file is segmented", same_grid(mask, reference))

    sample = client.next_sample("first", {})
    check("the next sample is the one without a label", sample["id"] == "case_a" and sample["name"] == "case_a.nii.gz")
    uploaded = client.upload_image(str(image), "2: Abdomen 5.0 B30f")
    check("an image is uploaded under an id with blanks", uploaded["image"] == "2: Abdomen 5.0 B30f")
    check("it can be segmented by that id", client.infer(click, uploaded["image"], dict(
        options, foreground=[centre], slice=centre[2]))[0])
    label = folder / "ct/labels.nii.gz"
    saved = client.save_label("case_a", str(label), tag="final", params={"label_info": [{"name": "liver", "idx": 6}]})
    check("a label is saved", saved["image"] == "case_a")
    fetched = client.download_label("case_a", "final")
    check("it comes back byte by byte", Path(fetched).read_bytes() == label.read_bytes() and fetched.endswith(".nii.gz"))
    store = client.datastore()
    check("the store lists it", store["objects"]["case_a"]["labels"]["final"]["info"]["label_info"][0]["name"] == "liver")
    check("the next sample is the uploaded image", client.next_sample("random", {})["id"] == uploaded["image"])
    check("no training runs", client.train_status(check_if_running=True) is False if hasattr(client, "train_status") else True)
    client.remove_session(session)
    try:
        client.get_session(session)
        check("a removed session is gone", False)
    except MONAILabelClientException as e:
        check("a removed session is gone", e.status_code == 404 if hasattr(e, "status_code") else True)
    for name, call in {
        "an unknown model": lambda: client.infer("no-such-model", "case_a", {}),
        "an id of a path": lambda: client.infer(click, "../x", dict(options, foreground=[centre])),
        "a point outside": lambda: client.infer(click, "case_a", dict(options, foreground=[[9999, 0, 0]])),
    }.items():
        try:
            call()
            check(f"{name} is refused", False)
        except MONAILabelClientException as e:
            check(f"{name} is refused with a sentence", "detail" in str(e.args) or "detail" in str(e), e)
    check("the server stops when asked", server.stop() == 0)

    server = Server(folder, token="correct-horse-battery", studies=studies)
    client = MONAILabelClient(server.url, tmpdir=str(folder), client_id="peer")
    check("a log-in is needed", client.auth_enabled() is True)
    check("without it nothing is told", client.auth_valid_token() is False)
    client.update_auth(client.auth_token("anybody", "correct-horse-battery"))
    check("the token is valid", client.auth_valid_token() is True)
    session = client.create_session(str(image))["session_id"]
    check("calls with a token work", bool(client.get_session(session)) and "models" in client.info())
    mask, _ = client.infer(click, "case_a", dict(options, foreground=[centre], slice=centre[2]), session_id=session)
    check("a click with a token works", same_grid(mask, reference))
    server.stop()

print(f"{checks} passed, 0 failed")
