"""Calls of a volseg server. Standard library only; one connection a call, as the server expects."""

import http.client
import json
import os
import secrets
from urllib.parse import urlencode, urlparse


class ServerError(Exception):
    """The server's own sentence, or that it does not answer. `status` is 0 without an answer."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Client:
    """A server at an address such as http://127.0.0.1:8000."""

    def __init__(self, address, token=None, timeout=600):
        parts = urlparse(address)
        self.host, self.port, self.token, self.timeout = parts.hostname, parts.port, token, timeout

    def _call(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(0, f"the volseg server does not answer ({type(error).__name__})") from error
        finally:
            connection.close()
        if answer.status != 200:
            try:
                text = str(json.loads(content)["detail"])
            except (ValueError, KeyError, TypeError):
                text = f"the volseg server answered {answer.status}"
            raise ServerError(answer.status, text)
        return content

    def _json(self, method, path, value=None):
        body = None if value is None else json.dumps(value).encode()
        headers = {} if value is None else {"Content-Type": "application/json"}
        return json.loads(self._call(method, path, body, headers))

    def ready(self):
        """Whether the server answers."""
        try:
            return self._json("GET", "/healthz")["status"] == "ok"
        except ServerError:
            return False

    def upload(self, path, modality="auto", plane="axial"):
        """Sends a volume; its description. Nothing of the file's name but the ending leaves this machine."""
        boundary = secrets.token_hex(16)
        name = os.path.basename(path)
        ending = next((e for e in (".nii.gz", ".seg.nrrd") if name.lower().endswith(e)), os.path.splitext(name)[1])
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="volume{ending}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        length = len(head) + os.path.getsize(path) + len(tail)

        def pieces():
            yield head
            with open(path, "rb") as file:
                while True:
                    piece = file.read(1 << 20)
                    if not piece:
                        break
                    yield piece
            yield tail

        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(length)}
        query = urlencode({"modality": modality, "plane": plane})
        return json.loads(self._call("PUT", f"/volseg/images?{query}", pieces(), headers))

    def mask(self, place, organ=None, points=(), box=None, threshold=0.5):
        """Mask of a prompt: `size`, `rle`, `iou`. `place` holds image, plane and slice."""
        question = dict(place, threshold=threshold, points=[list(p) for p in points])
        if organ:
            question["organ"] = organ
        if box:
            question["box"] = list(box)
        return self._json("POST", "/volseg/mask", question)

    def candidates(self, place, organ, pictures=True):
        """The four candidates of an organ on a slice, as the start of a judgement."""
        return self._json("POST", "/volseg/candidates", dict(place, organ=organ, pictures=pictures))

    def save(self, judgement):
        """Saves a judgement for good."""
        return self._json("POST", "/volseg/preferences", judgement)["saved"]

    def next(self, image=None, organ=None, modality="auto", plane="axial"):
        """Slice and organ that the model is least sure of; {} when all are judged."""
        values = {"by": "uncertainty", "modality": modality, "plane": plane}
        values.update({k: v for k, v in (("image", image), ("organ", organ)) if v})
        return self._json("GET", "/volseg/next?" + urlencode(values))
