"""rankclip's command line that writes its footprint to REPORT when it has embedded as many photos as MARKS says; run in a process of its own."""

import os
from typing import Any

import psutil
from tests.torture.footprint import tree_pss

from rankclip.cli.app import main
from rankclip.engines.toy import ToyEngine

real = ToyEngine.encode_images
marks = [int(mark) for mark in os.environ["MARKS"].split(",")]
count = 0


def encode(self: ToyEngine, pixels: Any) -> Any:
    global count
    found = real(self, pixels)
    count += len(pixels)
    if count in marks:
        with open(os.environ["REPORT"], "a") as report:
            print(tree_pss(psutil.Process()), file=report)
    return found


ToyEngine.encode_images = encode  # type: ignore[method-assign]
main()
