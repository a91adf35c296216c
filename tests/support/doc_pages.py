"""Pages of the documentation, their blocks, and the files that their commands work on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_images import tiny_images

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))}
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    mark: str
    """Content of the comment above it: `not run: REASON`, `file: NAME`, or empty."""


def blocks(page: str) -> list[Block]:
    found = BLOCK.finditer(PAGES[page].read_text(encoding="utf-8"))
    return [Block(match["language"], match["text"], match["mark"] or "") for match in found]


def commands(block: Block) -> list[str]:
    """The lines of a block of shell commands, without comments, continued lines joined."""
    lines = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


def write_inputs(folder: Path) -> None:
    """Write tiny files with the names that the pages use, all images different."""
    for seed, name in enumerate(("cells.npz", "new-cells.npz", "ward_b.npz")):
        images, labels = tiny_images(90 if seed == 0 else 30, seed)
        np.savez(folder / name, images=images, labels=np.array(["basophil", "monocyte", "platelet"])[labels])
    images, labels = tiny_images(90, seed=3)
    lines = ["image,patient"]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = f"{('basophil', 'monocyte', 'platelet')[label]}/img_{number:02}.png"
        (folder / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "pictures" / name)
        lines.append(f"{name},patient-{number // 2}")
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    (folder / "unlabelled").mkdir()
    for number, image in enumerate(tiny_images(5, seed=4)[0]):
        Image.fromarray(image).save(folder / "unlabelled" / f"{number}.png")
