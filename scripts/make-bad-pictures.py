#!/usr/bin/env python3
"""Makes the pictures of tests/bad_files/fixtures that need an encoder which the tests do not have.

    python3 -m venv venv && venv/bin/pip install pillow
    venv/bin/python scripts/make-bad-pictures.py tests/bad_files/fixtures
"""
import sys
from pathlib import Path

from PIL import Image

folder = Path(sys.argv[1])
# 8 x 8 pixels of one ink (black), so that every reader gets the same grey.
Image.new("CMYK", (8, 8), (0, 0, 0, 155)).save(folder / "cmyk.jpg", quality=90)
frames = [Image.new("L", (4, 3), v) for v in (10, 200)]
frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:])
frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
